"""The sampler: order of stages, programs, guards, replay."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.sampling import settings as sampling
from services.inference.sampling.sampler import (
    MINIMUM_TEMPERATURE,
    Row,
    random_unit,
    sample,
    temperature_of,
)
from services.inference.sampling.settings import (
    Dynatemp,
    Edt,
    Fixed,
    Guard,
    Penalties,
    Residual,
    Sampling,
)
from thermesh.errors import InvalidArgument

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, 3.0])
PINNED = (0.011546754286331562, 0.6748131734351599, 0.6208454488327405)


def logits_of(seed: int, rows: int = 1, vocabulary: int = 50) -> torch.Tensor:
    return 2 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def draw(logits: torch.Tensor, sampling: Sampling, **row):
    [drawn] = sample(logits[None], [Row(sampling, **{"seed": 1, "token_index": 0, **row})])
    return drawn


def drawn_ids(logits: torch.Tensor, sampling: Sampling, count: int = 300) -> set[int]:
    rows = [Row(sampling, seed=7, token_index=index) for index in range(count)]
    return {drawn.token_id for drawn in sample(logits.expand(count, -1), rows)}


def test_greedy_takes_the_best_and_reports_zero() -> None:
    """Temperature 0 takes the most probable token, at log-probability 0."""
    drawn = draw(LOGITS, Sampling(Fixed(0)))
    assert (drawn.token_id, drawn.temperature, drawn.log_probability) == (4, 0.0, 0.0)
    assert drawn.model_log_probability == pytest.approx(float(torch.log_softmax(LOGITS, 0)[4]))


def test_telemetry_is_of_the_models_own_distribution() -> None:
    """Entropy and candidates do not change with bias, penalties, guard or temperature."""
    plain = draw(LOGITS, Sampling(Fixed(1.0)), candidate_count=3)
    sampling = Sampling(Fixed(0.3), Guard(top_k=2), Penalties(2, 1, 1), ((0, 50.0),))
    changed = draw(LOGITS, sampling, candidate_count=3, output_counts={4: 3})
    expected = float(torch.distributions.Categorical(logits=LOGITS).entropy())
    assert plain.entropy == changed.entropy == pytest.approx(expected, rel=1e-6)
    assert plain.candidates == changed.candidates
    assert [token_id for token_id, _ in plain.candidates] == [4, 0, 1]


def test_log_probability_is_of_the_distribution_drawn_from() -> None:
    """The reported log-probability is after bias, guard and temperature."""
    sampling = Sampling(Fixed(0.5), Guard(top_k=3), logit_bias=((3, 4.0),))
    drawn = draw(LOGITS, sampling)
    tempered = torch.log_softmax(torch.tensor([2.0, 3.0, 3.0]) / 0.5, 0)  # ids 0, 3, 4
    assert drawn.log_probability == pytest.approx(float(tempered[[0, 3, 4].index(drawn.token_id)]))


def test_frequencies_follow_the_distribution() -> None:
    """4000 draws match the tempered probabilities within five standard errors."""
    count, temperature = 4000, 1.3
    rows = [Row(Sampling(Fixed(temperature)), 5, index) for index in range(count)]
    drawn = [one.token_id for one in sample(LOGITS.expand(count, -1), rows)]
    for token_id, expected in enumerate(torch.softmax(LOGITS / temperature, 0).tolist()):
        error = math.sqrt(expected * (1 - expected) / count)
        assert abs(drawn.count(token_id) / count - expected) < 5 * error


@pytest.mark.parametrize(
    ("guard", "kept"),
    [
        (Guard(top_k=2), {0, 4}),
        (Guard(top_p=0.6), {4}),
        (Guard(top_p=0.7), {0, 4}),
        (Guard(min_p=0.3), {0, 4}),
        (Guard(top_n_sigma=1.0), {0, 4}),
        (Guard(top_k=1, top_p=1.0, min_p=0.01, top_n_sigma=5), {4}),
        # After top_k = 2 the best has 0.73 of what is left: top_p sees that.
        (Guard(top_k=2, top_p=0.72), {4}),
    ],
)
def test_guard_keeps_what_it_says(guard: Guard, kept: set[int]) -> None:
    """Each cut applies to what the one before left, in the documented order."""
    # Softmax of LOGITS is .229 .084 .051 .011 .623; its sigma is 1.36.
    assert drawn_ids(LOGITS, Sampling(Fixed(2.0), guard)) == kept


def test_top_n_sigma_does_not_depend_on_bans() -> None:
    """Banning tokens by bias leaves the others' kept set as it was."""
    logits = logits_of(3)[0]
    guard = Guard(top_n_sigma=1.0)
    banned = (int(logits.argmin()), -100.0)
    free = drawn_ids(logits, Sampling(Fixed(2.0), guard))
    assert drawn_ids(logits, Sampling(Fixed(2.0), guard, logit_bias=(banned,))) == free


@given(
    seed=st.integers(0, 2**32),
    guard=st.builds(
        Guard,
        top_n_sigma=st.none() | st.floats(0.01, 10),
        min_p=st.none() | st.floats(0.001, 1),
        top_p=st.none() | st.floats(0.001, 1),
        top_k=st.none() | st.integers(1, 100),
    ),
    temperature=st.floats(0.1, 2.0),
)
@settings(max_examples=60, deadline=None)
def test_a_token_always_survives(seed: int, guard: Guard, temperature: float) -> None:
    """Whatever the guard, a token is drawn with a finite log-probability."""
    drawn = draw(logits_of(seed)[0], Sampling(Fixed(temperature), guard), seed=seed)
    assert drawn.log_probability <= 0
    assert math.isfinite(drawn.log_probability)


def test_edt_follows_the_paper() -> None:
    """EDT is T0 * 0.8^(theta / H), never above T0, and never 0."""
    kept = torch.zeros(4)
    expected = 1.2 * 0.8 ** (0.7 / 1.5)
    assert temperature_of(Edt(1.2, 0.7), 1.5, kept) == pytest.approx(expected)
    assert temperature_of(Edt(1.2, 0.7), 0.0, kept) == MINIMUM_TEMPERATURE
    assert temperature_of(Edt(1.2, 0.7), 1e9, kept) <= 1.2


def test_edt_uses_the_untempered_model_distribution() -> None:
    """The temperature in telemetry is the formula at the reported entropy."""
    drawn = draw(LOGITS, Sampling(Edt(1.0, 0.5), Guard(top_k=1), logit_bias=((0, 9.0),)))
    assert drawn.temperature == pytest.approx(0.8 ** (0.5 / drawn.entropy))


def test_dynatemp_normalises_over_the_candidates_left() -> None:
    """Uniform candidates reach the top of the range, a single one the bottom."""
    program = Dynatemp(1.0, 0.4, 2.0)
    assert temperature_of(program, 9.0, np.zeros(5)) == pytest.approx(1.4)
    assert temperature_of(program, 9.0, np.zeros(1)) == pytest.approx(0.6)
    two = torch.tensor([0.0, 1.0], dtype=torch.float64)
    share = float(torch.distributions.Categorical(logits=two).entropy()) / math.log(2)
    assert temperature_of(program, 9.0, two.numpy()) == pytest.approx(0.6 + 0.8 * share**2)
    assert temperature_of(Dynatemp(0.5, 2.0, 1.0), 9.0, np.zeros(1)) == MINIMUM_TEMPERATURE


def test_a_residual_moves_the_inverse_temperature_with_entropy() -> None:
    """1/T changes by `slope` a nat from `centre` on; a sure token keeps the base."""
    program, kept = Residual(0.8, 0.25, 2.0, 1.0), np.zeros(4)
    assert temperature_of(program, 2.0, kept) == pytest.approx(0.8)
    assert temperature_of(program, 4.0, kept) == pytest.approx(1 / (1.25 + 0.5))
    assert temperature_of(program, 1.0, kept) == pytest.approx(1.0)
    assert temperature_of(program, 0.1, kept) == pytest.approx(0.8)


RESIDUALS = st.builds(
    Residual, st.floats(0.1, 2.0), st.floats(-10, 10), st.floats(0, 20), st.floats(0, 2)
)


@given(program=RESIDUALS, entropy=st.floats(0, 20))
def test_a_residual_stays_within_its_bounds(program: Residual, entropy: float) -> None:
    """Never farther from its base than `range`, never outside [0.1, 2.0]."""
    temperature = temperature_of(program, entropy, torch.zeros(4))
    assert abs(temperature - program.temperature) <= program.range + 1e-6
    assert 0.1 <= temperature <= 2.0


@given(program=RESIDUALS, seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_the_trace_of_a_residual_repeats_its_draws(program: Residual, seed: int) -> None:
    """The logged temperature, a float32, draws the same token alone, bit for bit."""
    logits, guard = logits_of(seed % 1000, 1, 211), Guard(top_n_sigma=2.0)
    drawn = sample(logits, [Row(Sampling(program, guard), seed, 3)])[0]
    assert drawn is not None
    logged = float(torch.tensor(drawn.temperature, dtype=torch.float32))
    assert sample(logits, [Row(Sampling(Fixed(logged), guard), seed, 3)])[0] == drawn


def test_penalties_change_only_used_tokens() -> None:
    """Repetition looks at prompt and output, presence and frequency at output only."""
    greedy = Fixed(0)
    assert draw(LOGITS, Sampling(greedy, penalties=Penalties(2)), prompt_ids={4}).token_id == 0
    presence = Sampling(greedy, penalties=Penalties(presence=1.5))
    assert draw(LOGITS, presence, prompt_ids={4}).token_id == 4
    assert draw(LOGITS, presence, output_counts={4: 1}).token_id == 0
    frequency = Sampling(greedy, penalties=Penalties(frequency=0.6))
    assert draw(LOGITS, frequency, output_counts={4: 1}).token_id == 4
    assert draw(LOGITS, frequency, output_counts={4: 2}).token_id == 0
    negative = torch.tensor([-1.0, -1.5])
    assert draw(negative, Sampling(greedy, penalties=Penalties(2)), prompt_ids={0}).token_id == 1


def test_bias_can_force_and_ban() -> None:
    """A bias of 100 forces a token, one of -100 bans it."""
    assert drawn_ids(LOGITS, Sampling(Fixed(1.0), logit_bias=((3, 100.0),))) == {3}
    assert 4 not in drawn_ids(LOGITS, Sampling(Fixed(1.0), logit_bias=((4, -100.0),)))


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 100_000), others=st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_batch_composition_changes_nothing(seed: int, index: int, others: int) -> None:
    """The same logits, seed and index give the same draw, bit for bit, in any batch."""
    logits = logits_of(index, others + 1, 997)
    mine = Row(Sampling(Edt(1.5, 0.3), Guard(top_p=0.95)), seed, index)
    crowd = [Row(Sampling(Fixed(0.8)), seed + 1, number) for number in range(others)]
    place = others // 2
    rows = [*crowd[:place], mine, *crowd[place:]]
    assert sample(logits, rows)[place] == sample(logits[place : place + 1], [mine])[0]


def test_random_numbers_are_pinned() -> None:
    """The generator is part of the replay contract: these values must not change."""
    assert random_unit(0, 0) == PINNED[0]
    assert random_unit(12345, 7) == PINNED[1]
    assert random_unit(2**64 - 1, 2**32) == PINNED[2]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32))
@settings(max_examples=50)
def test_random_numbers_lie_in_the_unit_interval(seed: int, index: int) -> None:
    """Numbers lie in [0, 1), for every seed and index."""
    assert 0 <= random_unit(seed, index) < 1


def test_a_row_that_is_no_distribution_is_told_apart() -> None:
    """NaN or infinite logits spoil their own row only."""
    logits = logits_of(1, 3)
    logits[0, 3], logits[2, 3] = float("nan"), float("inf")
    rows = [Row(Sampling(Fixed(1.0)), 1, 0)] * 3
    drawn = sample(logits, rows)
    assert [one is None for one in drawn] == [True, False, True]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Sampling(Fixed(0.05)), "s.program.fixed.temperature"),
        (Sampling(Fixed(2.01)), "s.program.fixed.temperature"),
        (Sampling(Fixed(math.nan)), "s.program.fixed.temperature"),
        (Sampling(Edt(0.0, 1)), "s.program.edt.base_temperature"),
        (Sampling(Edt(1.0, 0)), "s.program.edt.theta"),
        (Sampling(Dynatemp(3, 0, 1)), "s.program.dynatemp.temperature"),
        (Sampling(Dynatemp(1, 2.1, 1)), "s.program.dynatemp.range"),
        (Sampling(Dynatemp(1, 0, 0)), "s.program.dynatemp.exponent"),
        (Sampling(Residual(2.1, 0, 0, 0)), "s.program.residual.temperature"),
        (Sampling(Residual(1, math.nan, 0, 0)), "s.program.residual.slope"),
        (Sampling(Residual(1, 0, 20.1, 0)), "s.program.residual.centre"),
        (Sampling(Residual(1, 0, 0, -0.1)), "s.program.residual.range"),
        (Sampling(Fixed(1), Guard(top_n_sigma=0)), "s.guard.top_n_sigma"),
        (Sampling(Fixed(1), Guard(min_p=1.1)), "s.guard.min_p"),
        (Sampling(Fixed(1), Guard(top_p=0)), "s.guard.top_p"),
        (Sampling(Fixed(1), Guard(top_k=0)), "s.guard.top_k"),
        (Sampling(Fixed(1), penalties=Penalties(0)), "s.penalties.repetition"),
        (Sampling(Fixed(1), penalties=Penalties(presence=3)), "s.penalties.presence"),
        (Sampling(Fixed(1), penalties=Penalties(frequency=-3)), "s.penalties.frequency"),
        (Sampling(Fixed(1), logit_bias=((99, 1.0),)), "s.logit_bias"),
        (Sampling(Fixed(1), logit_bias=((1, 101.0),)), "s.logit_bias[1]"),
        (Sampling(Fixed(1), logit_bias=((1, 0.0),) * 1025), "s.logit_bias"),
    ],
)
def test_values_out_of_range_name_their_field(value: Sampling, field: str) -> None:
    """A bad member is refused with its path and what is allowed."""
    with pytest.raises(InvalidArgument) as refused:
        value.validate("s", vocabulary_size=50)
    assert refused.value.field == field
    assert field in refused.value.message


def test_the_default_is_valid() -> None:
    """What is used where a request says nothing passes its own checks."""
    sampling.DEFAULT.validate("s", 10)
