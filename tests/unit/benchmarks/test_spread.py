"""Statistics of the benchmarks."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.spread import added, decode_rate, interleaved, median_interval, quantile, summary

SAMPLES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(SAMPLES)
def test_median_is_that_of_the_standard_library(samples):
    """The half quantile is the median."""
    assert quantile(samples, 0.5) == pytest.approx(statistics.median(samples), abs=1e-6)


@given(SAMPLES, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_grow_with_their_share_and_stay_inside(samples, one, other):
    """A larger share never has a smaller quantile, and none leaves the samples' range."""
    small, large = sorted((one, other))
    assert min(samples) - 1e-6 <= quantile(samples, small) <= quantile(samples, large) + 1e-6
    assert quantile(samples, large) <= max(samples) + 1e-6


def test_quantile_interpolates_between_neighbours():
    """The quartile of 0, 10 lies at 2.5, as numpy has it."""
    assert quantile([10, 0], 0.25) == 2.5


def test_quantile_of_nothing_is_refused():
    """No samples have no quantile."""
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_summary_holds_the_quartiles_and_the_tail():
    """Of 0 to 100 the figures are the shares themselves."""
    figures = summary(range(101))
    assert (figures.count, figures.median, figures.low, figures.high) == (101, 50, 25, 75)
    assert figures.p95 == 95


def test_added_compares_within_rounds():
    """A machine that was twice as slow in one round changes no difference but that round's."""
    assert added([1.0, 2.0, 4.0], [1.5, 2.5, 4.5]) == [0.5, 0.5, 0.5]


def test_added_refuses_rounds_that_do_not_match():
    """Samples of different rounds are not compared."""
    with pytest.raises(ValueError, match="zip"):
        added([1.0], [1.0, 2.0])


@given(SAMPLES)
def test_interval_of_the_median_lies_inside_the_samples(samples):
    """The bootstrap's interval is ordered and inside the range of what was seen."""
    low, high = median_interval(samples, resamples=50)
    assert min(samples) - 1e-6 <= low <= high <= max(samples) + 1e-6


@given(st.lists(st.text(), unique=True, max_size=5), st.integers(0, 5), st.integers())
def test_each_contender_runs_once_a_round(names, rounds, seed):
    """Whatever the order, a round holds every name exactly once."""
    order = list(interleaved(names, rounds, seed))
    size = len(names)
    assert len(order) == size * rounds
    for begin in range(0, len(order), size or 1):
        assert sorted(order[begin : begin + size]) == sorted(names)


def test_decode_rate_leaves_prefill_out():
    """Three tokens whose last came one second after the first are two a second."""
    assert decode_rate([5.0, 5.5, 6.0], 3) == 2


@pytest.mark.parametrize(("arrivals", "tokens"), [([], 0), ([1.0], 1), ([1.0], 4)])
def test_decode_rate_needs_two_arrivals(arrivals, tokens):
    """One arrival has no rate."""
    assert decode_rate(arrivals, tokens) is None
