"""How many prompt tokens a step may take while others decode."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from services.inference.scheduling.pacing import FEWEST_TOKENS, FIRST_TOKENS, Pace
from services.inference.scheduling.prompt_costs import PromptCosts


def taught(decode_ms: float, prompt_ms: float, decoding: int = 1) -> Pace:
    """A pace that saw steps with these costs and no others."""
    pace = Pace(stretch=2.0)
    for _ in range(5):
        pace.observe(decode_ms, decoding, 0)
    for _ in range(5):
        pace.observe(decode_ms + 96 * prompt_ms, decoding, 96)
    return pace


def test_prompts_take_as_long_as_a_decode_step() -> None:
    """With a stretch of 2 a step of 30 ms affords 60 tokens of half a millisecond."""
    assert taught(30, 0.5).allowance(1, most=512) == 60


def test_nothing_bounds_a_step_in_which_nobody_decodes() -> None:
    """Full chunks while no stream waits."""
    assert taught(30, 0.5).allowance(0, most=512) == 512


def test_a_prompt_always_gets_on() -> None:
    """Where a token costs more than a step, and where nothing is known, a few are computed."""
    assert taught(1, 50).allowance(1, most=512) == FEWEST_TOKENS
    assert Pace(2.0).allowance(1, most=512) == FIRST_TOKENS
    assert Pace(2.0).allowance(1, most=3) == 3


def test_one_slow_step_changes_nothing() -> None:
    """A neighbour that takes the cores for a moment does not starve prompts."""
    pace = taught(30, 0.5)
    pace.observe(3000, 1, 0)
    pace.observe(3000, 1, 60)
    assert pace.allowance(1, most=512) == 60


def test_steps_faster_than_a_decode_step_do_not_let_everything_in() -> None:
    """Prompts that were read before end in few tokens, which take less: their cost is not told."""
    pace = taught(30, 0.5)
    for _ in range(9):
        pace.observe(6, 0, 16)
    assert pace.allowance(1, most=512) == 60


def test_costs_that_change_are_followed() -> None:
    """Later tokens of a long prompt attend to more; after a few steps fewer are taken."""
    pace = taught(30, 0.5)
    for _ in range(4):
        pace.observe(30 + 60 * 1.0, 1, 60)
    assert pace.allowance(1, most=512) == 30


def test_what_joins_grows_by_steps() -> None:
    """What tokens took in prompts read alone says little of them beside others: a step takes
    at most half as many tokens again as the one before it."""
    pace = Pace(2.0)
    for _ in range(5):
        pace.observe(30, 16, 0)
        pace.observe(30 + 512 * 0.1, 0, 512)
    taken = []
    for _ in range(5):
        taken.append(pace.allowance(16, most=512))
        pace.observe(30 + taken[-1] * 0.4, 16, taken[-1])
    assert taken == [10, 15, 22, 33, 49]


def costing(shared_ms: float, each_ms: float, spare_ms: float, steps: int = 200) -> list[int]:
    """What a pace takes, step after step, of a prompt whose tokens share a part of their cost."""
    pace = Pace(2.0)
    for _ in range(9):
        pace.observe(spare_ms, 16, 0)
    taken = []
    for _ in range(steps):
        count = pace.allowance(16, most=512)
        pace.observe(spare_ms + (shared_ms + count * each_ms if count else 0), 16, count)
        taken.append(count)
    return taken


def test_fewer_tokens_are_taken_where_each_has_its_cost() -> None:
    """Behind a long context even ten take longer than they may, but four do not."""
    assert statistics.median(costing(shared_ms=2, each_ms=2.2, spare_ms=12)) == 4


def test_more_tokens_are_taken_where_they_share_it() -> None:
    """Where reading the context is what takes the time, fewer hold others up as long."""
    assert statistics.median(costing(shared_ms=16, each_ms=0.4, spare_ms=12)) == 6


def test_one_slow_probe_is_not_believed() -> None:
    """All of the cost seems to be shared where a neighbour had the core in that step."""
    costs = PromptCosts()
    for _ in range(5):
        costs.observe(20, 10, is_probe=False)
    for seconds in (60, 10, 10):
        costs.observe(seconds, 5, is_probe=True)
        assert costs.affordable(10, most=512) == 5


def test_the_step_of_many_is_not_that_of_one() -> None:
    """The median is that of steps of about as many sequences, or of the next fewer."""
    pace = taught(30, 0.5)
    for _ in range(5):
        pace.observe(60, 16, 0)
    assert pace.allowance(16, most=512) == 120
    assert pace.allowance(31, most=512) == 120
    assert pace.allowance(8, most=512) == 60


def test_a_short_prompt_may_join_as_a_whole() -> None:
    """Within the longest step allowed, and again only when what it took beyond the
    stretch was paid back by steps without prompts."""
    pace = Pace(stretch=2.0, burst_seconds=0.12)
    for _ in range(5):
        pace.observe(0.020, 1, 0)
        pace.observe(0.020 + 64 * 0.0005, 1, 64)
        pace.observe(0.020, 1, 0)
    assert pace.can_burst(1, 128)
    assert not pace.can_burst(1, 256)
    pace.observe(0.020 + 128 * 0.0005, 1, 128)
    waited = 0
    while not pace.can_burst(1, 128):
        pace.observe(0.020, 1, 0)
        waited += 1
    assert waited == 3


def test_steps_without_prompts_come_again() -> None:
    """Beside a long prompt the decode step is measured anew now and then."""
    pace = taught(30, 0.5)
    steps = 5
    while pace.allowance(1, most=512):
        pace.observe(60, 1, 60)
        steps += 1
    assert steps == 16
    pace.observe(30, 1, 0)
    assert pace.allowance(1, most=512) == 60


def test_halfway_between_them_a_step_takes_half() -> None:
    """It tells which part of the cost each token bears."""
    pace = taught(30, 0.5)
    taken = []
    while count := pace.allowance(1, most=512):
        taken.append(count)
        pace.observe(30 + count * 0.5, 1, count)
    assert taken == [60, 60, 60, 30, *[60] * 7]


def test_steps_that_grow_meanwhile_lend_prompts_no_more() -> None:
    """Beside a long prompt the contexts of the others grow: what it may add to a step is
    measured by the step that it found, until it is through and the next one comes."""
    pace = taught(30, 0.5)
    pace.observe(30, 1, 0)
    pace.observe(30, 1, 0)
    for _ in range(9):
        for _ in range(16):
            pace.observe(40 + 60 * 0.5, 1, 60)
        pace.observe(40, 1, 0)
    pace.observe(40 + 60 * 0.5, 1, 60)
    assert pace.allowance(1, most=512) == 60
    pace.observe(40, 1, 0)
    pace.observe(40, 1, 0)
    pace.observe(40 + 60 * 0.5, 1, 60)
    assert pace.allowance(1, most=512) == 80


def test_without_knowledge_or_leave_nothing_joins_as_a_whole() -> None:
    """Before costs are known, and with bursts switched off, prompts come in pieces."""
    assert not Pace(2.0, burst_seconds=1.0).can_burst(1, 16)
    assert not taught(0.020, 0.0005).can_burst(1, 1)


@given(
    decode_ms=st.floats(1, 100),
    prompt_ms=st.floats(0.01, 10),
    decoding=st.integers(1, 32),
)
def test_the_bound_holds_wherever_the_costs_are_constant(
    decode_ms: float, prompt_ms: float, decoding: int
) -> None:
    """A step takes at most twice the decode step, unless for the fewest tokens."""
    count = taught(decode_ms, prompt_ms, decoding).allowance(decoding, most=128)
    assert FEWEST_TOKENS <= count <= 128
    if count > FEWEST_TOKENS:
        assert decode_ms + count * prompt_ms <= 2 * decode_ms * (1 + 1e-9)
    if count < 128:
        assert decode_ms + (count + 1) * prompt_ms >= 2 * decode_ms * (1 - 1e-9)
