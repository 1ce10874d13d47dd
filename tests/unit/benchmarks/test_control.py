"""The simulated users of the control study, and its table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.control import report
from benchmarks.control.rows import headroom_and_regret
from benchmarks.control.world import MEASURED, NAMES, TEMPERATURES, decided, moved, newborn


def test_rewards_have_the_stored_means():
    """Noise is around the matrix, inside [0, 1]."""
    generator = np.random.default_rng(1)
    for task in range(len(NAMES)):
        for level, temperature in enumerate(TEMPERATURES):
            drawn = [MEASURED.draw(task, temperature, generator) for _ in range(2000)]
            assert 0.0 <= min(drawn) <= max(drawn) <= 1.0
            assert np.mean(drawn) == pytest.approx(MEASURED.means[task, level], abs=0.04)


def test_the_bars_are_those_of_the_matrix():
    """Best static 0.730, best of each task 0.7533, moved world as good for whoever knows it."""
    assert MEASURED.best_static == pytest.approx(0.730)
    assert MEASURED.best_by_task == pytest.approx(0.7533, abs=1e-4)
    assert moved().best_by_task == pytest.approx(MEASURED.best_by_task)


def test_decisions_are_the_products_own():
    """They carry the propensity of the grid that was measured."""
    logged = decided(newborn(0.0), 0, 0, np.random.default_rng(2))
    assert logged.policy_temperature in TEMPERATURES
    assert 0.0 < logged.propensity <= 1.0


def test_headroom_and_regret_of_the_extremes():
    """Always static wins none of the headroom; always the oracle wins all and is never behind."""
    oracle = headroom_and_regret([np.full(6000, MEASURED.best_by_task)] * 2)
    static = headroom_and_regret([np.full(6000, MEASURED.best_static)] * 2)
    behind = headroom_and_regret([np.full(6000, MEASURED.best_static - 0.1)] * 2)

    assert (oracle["share_of_headroom"], oracle["regret_crosses_at"]) == (pytest.approx(1), 0)
    assert static["share_of_headroom"] == pytest.approx(0)
    assert behind["regret_crosses_at"] is None


def test_the_page_is_made_from_the_stored_results():
    """No figure on it was typed by hand."""
    result = json.loads((report.RESULTS / "control-study.json").read_text())
    assert report.table(result) in report.PAGE.read_text()
