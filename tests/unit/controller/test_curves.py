"""Values told by curves along temperature: surer than weights, and as sure as they say."""

from __future__ import annotations

import numpy as np
import pytest

from services.controller.trust import curves
from services.controller.trust.evaluation import NOTHING_KNOWN, snips

TEMPERATURES = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 1.1])
MEANS = np.array([0.7 - 0.4 * (TEMPERATURES - 0.3) ** 2, 0.2 + 0.3 * TEMPERATURES, np.full(6, 0.5)])
LOGGING = np.array([0.05, 0.05, 0.75, 0.05, 0.05, 0.05])
TARGET = np.array([[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5], [1, 0, 0, 0, 0, 0]], dtype=float)
TRUTH = float((TARGET * MEANS).sum(axis=1).mean())


def estimates(seed, count=600):
    """(curves, SNIPS) of one simulated log with rewards of 0 and 1."""
    generator = np.random.default_rng(seed)
    contexts = generator.integers(3, size=count)
    actions = generator.choice(6, size=count, p=LOGGING)
    rewards = (generator.random(count) < MEANS[contexts, actions]).astype(float)
    weights = TARGET[contexts, actions] / LOGGING[actions]
    seen = curves.cells(contexts, actions, rewards, MEANS.shape)
    return curves.smoothed(seen, TEMPERATURES, TARGET, weights), snips(rewards, weights)


def test_curves_err_less_than_weights_and_cover_the_truth():
    """Less error where the target does what was rarely logged, and honest intervals."""
    found = [estimates(seed) for seed in range(200)]
    error = [np.sqrt(np.mean([(each[way].value - TRUTH) ** 2 for each in found])) for way in (0, 1)]
    covered = np.mean([each.lower <= TRUTH <= each.upper for each, _ in found])

    assert error[0] < 0.7 * error[1]
    assert covered >= 0.9
    assert np.mean([each.mean_weight for each, _ in found]) == pytest.approx(1.0, abs=0.02)


def test_an_action_that_was_never_logged_takes_from_its_neighbours():
    """And its interval says that less is known of it."""
    contexts, actions = np.zeros(300, dtype=int), np.arange(300) % 5
    seen = curves.cells(contexts, actions, np.full(300, 0.4), (1, 6))
    logged, unknown = (
        curves.smoothed(seen, TEMPERATURES, np.eye(6)[[action]], np.ones(300)) for action in (2, 5)
    )

    assert unknown.value == pytest.approx(0.4, abs=0.05)
    assert unknown.upper - unknown.lower > logged.upper - logged.lower


def test_much_data_outweighs_the_prior():
    """A peak that is sharper than the prior expects is found where much was logged there."""
    rewards = np.tile([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 4000)
    actions = np.tile(np.arange(6), 4000)
    rewards = rewards + np.random.default_rng(1).normal(0, 0.1, len(rewards))
    seen = curves.cells(np.zeros_like(actions), actions, rewards, (1, 6))
    found = curves.smoothed(seen, TEMPERATURES, np.eye(6)[[2]], np.ones(len(rewards)))
    assert found.value == pytest.approx(1.0, abs=0.02)


def test_without_decisions_nothing_is_known():
    """No value beats an interval without ends."""
    none = np.zeros(0, dtype=int)
    seen = curves.cells(none, none, np.zeros(0), (3, 6))
    assert curves.smoothed(seen, TEMPERATURES, TARGET, np.ones(1)) == NOTHING_KNOWN
