"""The light path of a model: it guesses for the whole, and serves who asked for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from fake_model import FakeTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from quantised_network import SMALL, QuantisedTensors

from services.inference.config import Config, KernelsConfig
from services.inference.decoding.decoder import Decoder
from services.inference.kernels import whole_network
from services.inference.kernels.cpu import status
from services.inference.limits import limits_of
from services.inference.models.nested import Prefix, PrefixTensors
from services.inference.request import ComputePath, Plan
from services.inference.sampling.settings import Edt, Fixed, Guard, Penalties, Sampling
from services.inference.sequences.attending import Attending
from thermesh.testing import FakeClock

from .conftest import Bench
from .test_speculation import Alphabet

SAMPLINGS = [
    Sampling(Fixed(0.0)),
    Sampling(Fixed(1.0)),
    Sampling(Fixed(0.7), Guard(top_p=0.9)),
    Sampling(Edt(1.0, 0.3)),
    Sampling(Fixed(0.7), penalties=Penalties(1.05, 0.05, 0.05)),
]


def run(
    *, foresees: bool, noise: float = 2.0, repeats: bool = False, **changes: Any
) -> tuple[Bench, list[Any]]:
    """Decode two requests, with and without a light path that guesses."""
    limits = {"self_speculation": foresees, "speculation": repeats}
    bench = Bench(FakeClock(), repeats=repeats, light_noise=noise, **limits)
    readers = [
        bench.submit(prompt, request_id=prompt, **{"max_tokens": 40, **changes})
        for prompt in ("what is it", "tell me, tell me, tell")
    ]
    bench.run()
    return bench, readers


def told(bench: Bench, readers: list[Any]) -> list[Any]:
    """Everything said of all tokens but the time they took."""
    return [
        [vars(token) | {"step_time_us": 0} for token in bench.tokens(reader)] for reader in readers
    ]


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(SAMPLINGS),
    st.integers(0, 1 << 30),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.booleans(),
)
def test_guessing_changes_nothing_but_the_number_of_steps(
    sampling: Sampling, seed: int, noise: float, repeats: bool
) -> None:
    """Whoever guesses, and however wrong: every token with all that is told of it is equal."""
    changes = {"sampling": sampling, "seed": seed, "candidate_count": 2, "repeats": repeats}
    plain, guessing = (run(foresees=on, noise=noise, **changes) for on in (False, True))

    assert told(*plain) == told(*guessing)
    assert guessing[0].light_steps > 0


def test_a_perfect_light_path_saves_most_steps() -> None:
    """Guesses share the random number of their token, so equal distributions agree at any heat."""
    plain, guessing = (
        run(foresees=on, noise=0.0, sampling=Sampling(Fixed(1.0))) for on in (False, True)
    )

    assert guessing[0].network.steps < plain[0].network.steps / 1.5
    right = guessing[0].decoder.scheduler.speculation.acceptances.right
    wrong = guessing[0].decoder.scheduler.speculation.acceptances.wrong
    assert sum(right.values()) > 20
    assert not wrong


def test_constraints_are_not_asked_about_guesses() -> None:
    """A constrained request goes on without guesses: its matcher follows what was drawn."""
    bench = Bench(FakeClock(), light_noise=0.0, self_speculation=True)
    matcher = Alphabet()
    reader = bench.submit("hello", max_tokens=20, constraint=matcher)
    bench.run()

    assert matcher.followed == bench.ids(reader)
    assert bench.light_steps == 0


def test_a_light_path_that_fails_costs_nobody_anything() -> None:
    """The whole network goes on alone where the light one raises."""
    plain, readers = run(foresees=False)
    bench = Bench(FakeClock(), light_noise=0.0, self_speculation=True, speculation=False)

    def failing(*_: Any) -> torch.Tensor:
        raise RuntimeError("the light network was told to fail")

    bench.network.light_network.step = failing
    again = [
        bench.submit(prompt, request_id=prompt, max_tokens=40)
        for prompt in ("what is it", "tell me, tell me, tell")
    ]
    bench.run()

    assert told(bench, again) == told(plain, readers)


def test_a_light_plan_is_served_by_the_light_network() -> None:
    """From the first token after the plan on, the light network computes; the others do not."""
    bench = Bench(FakeClock(), light_noise=0.0)
    light = bench.submit("hello", max_tokens=12, expects_plan=True, plan_grace_seconds=5.0)
    bench.step()
    bench.decoder.plan(light, Plan(Sampling(Fixed(1.0)), 11, compute_path=ComputePath.LIGHT))
    standard = bench.submit("other", max_tokens=12, request_id="other")
    bench.run()

    assert len(bench.tokens(light)) == len(bench.tokens(standard)) == 12
    assert bench.light_steps == 11
    alone = Bench(FakeClock())
    reader = alone.submit("other", max_tokens=12)
    alone.run()
    assert alone.ids(reader) == bench.ids(standard)


def test_a_preempted_sequence_is_computed_again_as_it_was() -> None:
    """A chunk never spans the place where the path changed, and pages behind it stay private."""
    attending = Attending()
    attending.follow(ComputePath.LIGHT, None, 20, has_light_network=True)
    attending.follow(ComputePath.LIGHT, None, 50, has_light_network=True)

    assert attending.light_from == 20
    assert (attending.alike(0, 100), attending.alike(16, 3), attending.alike(20, 9)) == (20, 3, 9)
    assert (attending.is_light(19), attending.is_light(20)) == (False, True)
    assert (attending.sharable(10), attending.sharable(64)) == (10, 20)


@pytest.mark.parametrize("has_light_network", [False, True])
def test_the_setting_asks_for_a_light_path_that_is_there(has_light_network: bool) -> None:
    """Without such a path the setting changes nothing; with it a device no longer goes ahead."""
    config = Config(self_speculation=True)
    limits = limits_of(config, looks_ahead=True, has_light_network=has_light_network)

    assert limits.self_speculation is has_light_network
    assert limits.looks_ahead is not has_light_network


@pytest.mark.skipif(not status().available, reason="the C++ kernels are not built here")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_on_the_kernels_the_whole_network_has_the_last_word(temperature: float) -> None:
    """Real networks, whole and light, on one real cache: the same tokens bit for bit."""
    config = dataclasses.replace(SMALL, heads=8, kv_heads=2, vocabulary_size=260)
    tensors, part = QuantisedTensors(config), Prefix(heads_per_group=3, neurons=64)
    wanted = KernelsConfig(kernels="cpu", tier="generic")
    texts = []
    for foresees in (False, True):
        bench = Bench(FakeClock(), self_speculation=foresees, speculation=False)
        network = whole_network(config, tensors, wanted)
        assert network is not None
        cut = PrefixTensors(tensors, config, part)
        network.light_network = whole_network(part.config(config), cut, wanted)
        limits = bench.decoder.scheduler.limits
        bench.decoder = Decoder(network, FakeTokenizer(), limits, 64, bench.clock)
        readers = [
            bench.submit(
                prompt, request_id=prompt, max_tokens=40, sampling=Sampling(Fixed(temperature))
            )
            for prompt in ("what is it", "tell me more of this")
        ]
        bench.run()
        texts.append(told(bench, readers))
        drafted = sum(outcome.drafted_tokens for outcome in bench.outcomes)
        assert (drafted > 0) is foresees

    assert texts[0] == texts[1]
