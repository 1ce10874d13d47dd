"""The heat map: what is counted, what is forgotten, what is odd."""

from __future__ import annotations

import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.observability import heatmap
from services.gateway.observability.heatmap import (
    BINS,
    MAX_TASKS,
    MINUTES,
    HeatMap,
    bin_of,
    is_odd,
    median,
)

MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0.0, 0), (0.05, 0), (0.1, 1), (0.3, 3), (0.7, 7), (1.99, 19), (2.0, 19), (9.0, 19), (-1, 0)],
)
def test_bins_begin_at_tenths(temperature, expected):
    """Bounds belong to the bin they begin, whatever binary fractions make of them."""
    assert bin_of(temperature) == expected


@given(st.lists(st.integers(0, BINS - 1), min_size=1, max_size=50))
def test_the_median_is_the_lower_one(indices):
    """Of bins' middles, as the library has it."""
    expected = statistics.median_low([heatmap.middle(index) for index in indices])
    assert median(Counter(indices)) == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(st.text(max_size=3), st.floats(-1, 3), st.integers(0, 400 * MINUTE_MS)),
        max_size=300,
    )
)
def test_whatever_comes_it_stays_small(answers):
    """Minutes, tasks and bins are bounded, also with a clock that jumps."""
    heat = HeatMap()
    for task, temperature, at in answers:
        heat.add(task, temperature, at)
    cells = heat.cells(max((at for _, _, at in answers), default=0))
    assert len({cell.minute for cell in cells}) <= MINUTES
    assert all(len(cell.counts) == BINS for cell in cells)
    for minute in {cell.minute for cell in cells}:
        assert sum(cell.minute == minute for cell in cells) <= MAX_TASKS


def test_an_hour_later_nothing_is_left():
    """What is older than the window goes."""
    heat = HeatMap()
    heat.add("code", 0.3, 0)
    assert [cell.task for cell in heat.cells(59 * MINUTE_MS)] == ["code"]
    assert heat.cells(60 * MINUTE_MS) == []


def test_a_minute_far_from_the_others_is_odd():
    """The one hot minute of a cool task is flagged, and no other."""
    heat = HeatMap()
    for minute in range(10):
        for offset in (0.0, 0.1, 0.2):
            heat.add("code", (1.5 if minute == 7 else 0.2) + offset, minute * MINUTE_MS)
    assert [cell.minute for cell in heat.cells(10 * MINUTE_MS) if cell.is_odd] == [7]


def test_what_varies_always_is_not_odd():
    """Wide tasks have wide limits."""
    usual = Counter(dict.fromkeys(range(2, 18), 3))
    minute = Counter({14: 5})
    assert not is_odd(minute, usual + minute)


@given(st.integers(0, BINS - 1), st.integers(0, BINS - 1), st.integers(1, 2))
def test_few_answers_say_nothing(usual, now, count):
    """Neither in the minute nor elsewhere."""
    assert not is_odd(Counter({now: count}), Counter({usual: 100}) + Counter({now: count}))
    assert not is_odd(Counter({now: 5}), Counter({usual: 19}) + Counter({now: 5}))
