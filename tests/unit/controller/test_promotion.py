"""Who may decide: the gate, the split and the sequential test, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from services.controller.evaluation import Estimate, snips
from services.controller.promotion import Canary, Verdict, gate, in_canary


def estimate(lower, effective=500.0):
    """An estimate with that lower bound."""
    return Estimate(lower + 0.05, lower, lower + 0.1, 1000, effective, 1.0)


def test_only_a_lower_bound_above_the_live_value_promotes():
    """A better guess is not enough."""
    assert gate(estimate(0.51), 0.5) is Verdict.PROMOTE
    assert gate(estimate(0.49), 0.5) is Verdict.HOLD
    assert gate(estimate(0.51, effective=10), 0.5) is Verdict.HOLD


def test_a_candidate_that_is_no_better_is_hardly_ever_promoted():
    """At most the 2.5 % that a one-sided bound allows, with room for chance."""
    promoted = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        rewards, weights = generator.normal(0.5, 0.3, 500), generator.gamma(4.0, 0.25, 500)
        promoted += gate(snips(rewards, weights), 0.5) is Verdict.PROMOTE
    assert promoted <= 400 * 0.05


def test_the_split_is_stable_and_has_its_share():
    """A session stays where it is, and more share only adds sessions."""
    keys = [f"s-{index}" for index in range(20_000)]
    few, more = ({key for key in keys if in_canary(key, 7, share)} for share in (0.1, 0.3))

    assert few < more
    assert len(few) / len(keys) == pytest.approx(0.1, abs=0.01)
    assert few == {key for key in keys if in_canary(key, 7, 0.1)}
    assert few != {key for key in keys if in_canary(key, 8, 0.1)}
    assert not any(in_canary(key, 7, 0.0) for key in keys)
    assert all(in_canary(key, 7, 1.0) for key in keys)


def run(seed, drop, deviation=0.28, control=4000):
    """One simulated canary against a control that was seen before, as at a share of 10 %."""
    generator = np.random.default_rng(seed)
    before = generator.normal(0.5, deviation, control)
    canary = Canary(control, float(before.mean()), float(before.var() * control))
    while canary.verdict is Verdict.HOLD:
        canary = canary.canary_earned(float(generator.normal(0.5 - drop, deviation)))
    return canary


def test_the_control_is_counted_as_it_comes():
    """Mean and variance are those of all rewards; a canary waits for a control."""
    rewards = np.random.default_rng(2).normal(0.3, 0.2, 100)
    canary = Canary().canary_earned(-100.0)
    for reward in rewards:
        canary = canary.control_earned(float(reward))

    assert canary.seen == 0
    assert canary.mean == pytest.approx(rewards.mean())
    assert canary.squares == pytest.approx(rewards.var() * 100)


def test_a_canary_without_change_is_hardly_ever_rolled_back():
    """At most 5 % of 300."""
    canaries = [run(seed, 0.0) for seed in range(300)]
    assert np.mean([each.verdict is Verdict.ROLL_BACK for each in canaries]) <= 0.05


def test_a_drop_is_found_within_500_requests():
    """A drop of 0.05 at a standard deviation of 0.28, in at least 95 % of 300."""
    canaries = [run(seed, 0.05) for seed in range(300)]
    assert np.mean([each.verdict is Verdict.ROLL_BACK for each in canaries]) >= 0.95
    assert max(each.seen for each in canaries) <= 500


def test_a_large_drop_is_found_at_once():
    """A candidate that answers nonsense is gone after a few requests."""
    assert max(run(seed, 0.5).seen for seed in range(20)) <= 40


def test_a_verdict_stays():
    """What comes later changes nothing."""
    decided = run(1, 0.3)
    assert decided.canary_earned(100.0) is decided
