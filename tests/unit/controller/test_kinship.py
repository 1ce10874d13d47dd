"""What one action earned says something of its neighbours, and less the more was seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.policies import bandit
from services.controller.policies.actions import Action
from services.controller.policies.kinship import likeness, posterior
from services.controller.policies.statics import Statics

pytestmark = pytest.mark.slow

WIDE = bandit.grid((0.1, 0.4, 0.8), ("top_n_sigma", "min_p"), (1.0, 0.5))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.just(0.0) | st.floats(0.01, 500.0), min_size=len(WIDE), max_size=len(WIDE)),
    kinship=st.floats(0.0, 0.99),
    seed=st.integers(0, 1000),
)
def test_the_posterior_is_that_of_a_gaussian_process(counts, kinship, seed):
    """Means and variances equal the textbook's, by an inverse of what was seen."""
    covariance = likeness(WIDE, kinship) / 2.0
    seen = np.array(counts)
    means = np.random.default_rng(seed).normal(size=len(WIDE))
    moved, left = posterior(covariance, seen, seen * means)

    known = seen > 0.0
    gain = covariance[:, known] @ np.linalg.inv(
        covariance[np.ix_(known, known)] + np.diag(1.0 / seen[known])
    )
    expected = covariance - gain @ covariance[known]
    assert moved == pytest.approx(gain @ means[known], abs=1e-6)
    assert left == pytest.approx(np.diag(expected), abs=1e-6)


@given(kinship=st.floats(0.0, 0.99))
def test_likeness_is_a_correlation(kinship):
    """1 with itself, and no combination of actions has a negative variance."""
    found = likeness(WIDE, kinship)
    assert np.diag(found) == pytest.approx(1.0)
    assert np.linalg.eigvalsh(found).min() >= (1.0 - kinship) - 1e-9


def test_a_reward_moves_neighbours_more_than_those_far_off():
    """A good answer at 0.6 makes 0.4 look better, 1.2 hardly; strangers not at all."""
    for kinship, near, far in ((0.9, 0.1, 0.05), (0.0, 0.0, 0.0)):
        begin = bandit.prior(shape_weight=0.0, statics=Statics(kinship=kinship))
        known = bandit.updated(begin, 0, Action(0.6), 1.0)
        mean, _ = bandit.beliefs(known, 0)
        # beside the level of the task, which the reward moves for all
        moved = dict(zip([each.temperature for each in begin.actions], mean - 0.5, strict=True))
        assert moved[0.6] > moved[0.4] >= near
        assert moved[1.2] <= far + 1e-12
