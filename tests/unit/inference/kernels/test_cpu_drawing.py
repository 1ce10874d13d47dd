"""What the C++ library draws is what the sampler that defines the meaning draws."""

from __future__ import annotations

import ctypes
import itertools
import math
from itertools import starmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.kernels.cpu import drawing, native, status
from services.inference.kernels.cpu.network import Engine
from services.inference.sampling.sampler import Row, sample
from services.inference.sampling.settings import (
    Dynatemp,
    Edt,
    Fixed,
    Guard,
    Penalties,
    Program,
    Residual,
    Sampling,
)

STATUS = status()
TIERS = STATUS.tiers or [pytest.param("cpu", marks=pytest.mark.skip(reason=STATUS.reason))]
SIZE = 1201  # fills neither lanes nor pieces
PROGRAMS: list[Program] = [
    Fixed(0.0),
    Fixed(0.7),
    Fixed(2.0),
    Edt(1.0, 0.7),
    Dynatemp(0.8, 0.5, 1.0),
    Residual(0.8, 0.5, 2.0, 0.3),
]
GUARDS = [
    Guard(),
    Guard(top_n_sigma=1.0),
    Guard(min_p=0.1),
    Guard(top_p=0.9),
    Guard(top_k=1),
    Guard(top_n_sigma=2.0, min_p=0.01, top_p=0.8, top_k=40),
]


@pytest.fixture(params=TIERS)
def draw(request):
    """Return a function like `sample`, on one tier and two threads."""
    library, engine = native.library(), Engine(native.library(), request.param)

    def drawn(logits, rows):
        size = logits.shape[1]
        survey, finish = (
            drawing.part_of(function, engine.handle, size, 2)
            for function in (library.thermesh_survey, library.thermesh_draw)
        )
        return drawing.draw(survey, finish, list(logits), rows)

    return drawn


def logits_of(seed: int, rows: int, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (rows, SIZE)).astype(np.float32)


def agree(actual, expected) -> bool:
    """Whether two draws are one, but for the last bits of what is told of it."""
    told = ("temperature", "entropy", "log_probability", "model_log_probability")
    return (
        actual.token_id == expected.token_id
        and actual.candidates == expected.candidates
        and all(
            math.isclose(getattr(actual, name), getattr(expected, name), rel_tol=2e-5, abs_tol=2e-5)
            for name in told
        )
    )


@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_it_draws_what_the_sampler_draws(draw, guard):
    """Token, temperature, entropy and log-probabilities, for every program."""
    rows = [
        Row(Sampling(program, guard), seed=2**63 + 5, token_index=index, candidate_count=index % 3)
        for index, program in enumerate(PROGRAMS)
    ]
    logits = logits_of(3, len(rows))
    assert all(starmap(agree, zip(draw(logits, rows), sample(logits, rows), strict=True)))


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 2**40),
    spread=st.sampled_from([0.1, 2.0, 12.0]),
    program=st.sampled_from(PROGRAMS),
    guard=st.builds(
        Guard,
        top_n_sigma=st.none() | st.floats(0.1, 5),
        min_p=st.none() | st.floats(0.001, 1),
        top_p=st.none() | st.floats(0.05, 1),
        top_k=st.none() | st.integers(1, 2 * SIZE),
    ),
)
@settings(max_examples=150, deadline=None)
def test_it_draws_what_the_sampler_draws_of_anything(seed, index, spread, program, guard):
    """Any seed, index, guard and sharpness; on the best tier of this machine."""
    if not STATUS.available:
        pytest.skip(STATUS.reason)
    library, engine = native.library(), Engine(native.library())
    survey, finish = (
        drawing.part_of(function, engine.handle, SIZE, 1)
        for function in (library.thermesh_survey, library.thermesh_draw)
    )
    logits = logits_of(seed % 1000, 1, spread)
    rows = [Row(Sampling(program, guard), seed, index)]
    [actual], [expected] = drawing.draw(survey, finish, list(logits), rows), sample(logits, rows)
    # A cut within rounding of a logit may fall to either side of it.
    assert agree(actual, expected) or abs(actual.log_probability - expected.log_probability) < 0.02


def test_a_rows_bits_depend_on_itself_alone(draw):
    """A row alone, and the same row amid others, give equal results; those drawn at once and
    those whose temperature is found first.
    """
    programs = itertools.cycle([Residual(0.8, 0.5, 2.0, 0.3), Fixed(1.3), Fixed(0.0)])
    guard = Guard(top_n_sigma=2.0)
    rows = [
        Row(Sampling(program, guard), seed, seed)
        for seed, program in zip(range(9), programs, strict=False)
    ]
    logits = logits_of(8, len(rows))
    together = draw(logits, rows)
    assert [draw(logits[i : i + 1], rows[i : i + 1])[0] for i in range(len(rows))] == together


def test_equal_logits_are_cut_in_the_order_of_the_vocabulary(draw):
    """Of equal ones at the edge of a cut the first stay; greedy takes the first."""
    logits = np.zeros((1, SIZE), np.float32)
    for seed in range(40):
        row = Row(Sampling(Fixed(1.0), Guard(top_k=3)), seed, 0)
        assert draw(logits, [row])[0].token_id < 3
    assert draw(logits, [Row(Sampling(Fixed(0.0)), 1, 0)])[0].token_id == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_distribution_draw_nothing(draw, bad):
    """Such a row is None; the one beside it is drawn as ever."""
    logits = logits_of(4, 2)
    logits[0, 7] = bad
    rows = [Row(Sampling(Fixed(1.0)), 1, 0), Row(Sampling(Fixed(1.0)), 2, 0)]
    nothing, drawn = draw(logits, rows)
    assert nothing is None
    assert agree(drawn, sample(logits[1:], rows[1:])[0])


def test_what_the_library_does_not_know_the_sampler_draws(draw):
    """Constraints, biases and penalties, beside rows of the library's own."""
    allowed = np.zeros(SIZE, np.bool_)
    allowed[[5, 9]] = True
    rows = [
        Row(Sampling(Fixed(1.0)), 1, 0, allowed=allowed),
        Row(Sampling(Fixed(1.0)), 1, 0),
        Row(Sampling(Fixed(1.0), penalties=Penalties(presence=1.0)), 1, 0, output_counts={3: 1}),
        Row(Sampling(Fixed(1.0), logit_bias=((3, 100.0),)), 1, 0),
    ]
    logits = logits_of(6, len(rows))
    assert all(starmap(agree, zip(draw(logits, rows), sample(logits, rows), strict=True)))


@pytest.mark.parametrize(
    ("count", "size", "threads", "change"),
    [
        (0, SIZE, 1, {}),
        (1, 0, 1, {}),
        (1, SIZE, 0, {}),
        (1, SIZE, 1, {"logits": None}),
        (1, SIZE, 1, {"top_k": 0}),
    ],
)
def test_impossible_rows_are_refused(count, size, threads, change):
    """The library says so and reads nothing."""
    if not STATUS.available:
        pytest.skip(STATUS.reason)
    library, engine = native.library(), Engine(native.library())
    logits = np.zeros(SIZE, np.float32)
    row = native.Row(**{"logits": logits.ctypes.data, "top_k": -1, **change})
    for function in (library.thermesh_survey, library.thermesh_draw):
        assert function(engine.handle, ctypes.pointer(row), count, size, threads)


def test_a_draw_without_a_survey_reads_nothing_beyond_the_row():
    """A floor above all logits leaves no candidate; the first token is told."""
    if not STATUS.available:
        pytest.skip(STATUS.reason)
    library, engine = native.library(), Engine(native.library())
    logits = np.zeros(SIZE, np.float32)
    row = native.Row(logits=logits.ctypes.data, top_k=-1, floor=1.0, temperature=1.0)
    assert library.thermesh_draw(engine.handle, ctypes.pointer(row), 1, SIZE, 1) is None
    assert row.token == 0
