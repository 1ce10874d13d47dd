"""Who may decide: the gate and the split of sessions."""

from __future__ import annotations

import numpy as np
import pytest

from services.controller.trust.evaluation import Estimate, snips
from services.controller.trust.promotion import Verdict, gate, in_canary


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
