"""The light path: sequences whose queries choose what they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.inference.request import ComputePath, Plan
from services.inference.sampling.settings import Fixed, Sampling

PROMPT = "Forty-eight tokens are read by all, and these sixty-nine are more..."
LIGHT = Plan(Sampling(Fixed(1.0)), seed=11, compute_path=ComputePath.LIGHT)
STANDARD = Plan(Sampling(Fixed(1.0)), seed=11)


def ids(bench: Any, plan: Plan, steps_before: int = 0) -> list[int]:
    """Token ids of one sequence that a plan reaches after some steps."""
    reader = bench.submit(PROMPT, expects_plan=True, plan_grace_seconds=9.0)
    for _ in range(steps_before):
        bench.step()
    bench.decoder.plan(reader, plan)
    bench.run()
    return bench.ids(reader)


def test_a_light_plan_changes_what_is_read(make_bench: Callable[..., Any]) -> None:
    """LIGHT takes effect, STANDARD and a network that cannot choose do as before."""
    light, standard = ids(make_bench(), LIGHT), ids(make_bench(), STANDARD)
    incapable = make_bench()
    incapable.network.light = None

    assert light != standard
    assert ids(incapable, LIGHT) == standard


def test_nothing_of_a_light_sequence_is_handed_on(make_bench: Callable[..., Any]) -> None:
    """Light sequences share what is as everybody computes it, in both directions."""
    light, standard = ids(make_bench(), LIGHT), ids(make_bench(), STANDARD)
    bench = make_bench()

    assert ids(bench, LIGHT) == light
    assert ids(bench, STANDARD) == standard
    assert bench.decoder.load().prefix_tokens_hit == 48
    assert ids(bench, LIGHT) != standard


def test_the_path_holds_from_the_first_token_not_computed(
    make_bench: Callable[..., Any],
) -> None:
    """A plan during prefill changes tokens that are still to be computed, and no others."""
    late = [ids(make_bench(prefill_chunk=20), LIGHT, steps_before=count) for count in range(5)]

    assert late[0] == late[1] == late[2]  # 48 tokens are not yet computed
    assert len({tuple(one) for one in late}) == 3


def test_a_preempted_light_sequence_is_computed_as_before(
    make_bench: Callable[..., Any],
) -> None:
    """After preemption the same tokens choose as before, whatever the prefix cache has."""
    undisturbed = ids(make_bench(prefill_chunk=20), LIGHT, steps_before=3)
    bench = make_bench(prefill_chunk=20)
    standard = bench.submit(PROMPT, request_id="standard")
    reader = bench.submit(PROMPT, expects_plan=True, plan_grace_seconds=9.0, tenant="other")
    for _ in range(3):
        bench.step()
    bench.decoder.plan(reader, LIGHT)
    bench.step()
    sequence = next(one for one in bench.decoder.scheduler.running if one.reader is reader)
    bench.decoder.scheduler.running.remove(sequence)
    bench.decoder.scheduler.pages.free(sequence.pages)
    sequence.restart()
    bench.decoder.scheduler.submit(sequence)
    bench.run()

    assert bench.ids(reader) == undisturbed
    assert bench.ids(standard)
    assert bench.decoder.load().kv_pages_used == 0
