"""Off-policy estimates: right on average, and as sure as they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from services.controller.decisions.decision import Constraints, Mode, decide
from services.controller.decisions.experience import Experience
from services.controller.policies import bandit
from services.controller.policies.actions import Action
from services.controller.policies.policy import PolicySnapshot, prior
from services.controller.trust.evaluation import (
    NOTHING_KNOWN,
    clipped,
    cross_fitted,
    doubly_robust,
    effective_sample_size,
    evaluate,
    snips,
)

MEANS = np.array([[0.8, 0.4, 0.1], [0.3, 0.6, 0.5]])
LOGGING = np.array([0.5, 0.3, 0.2])
TARGET = np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
TRUTH = float((TARGET * MEANS).sum(axis=1).mean())


def logs(seed, count=400):
    """(contexts, actions, rewards, weights) of a simulated logging policy."""
    generator = np.random.default_rng(seed)
    contexts = generator.integers(2, size=count)
    actions = generator.choice(3, size=count, p=LOGGING)
    rewards = (generator.random(count) < MEANS[contexts, actions]).astype(float)
    return contexts, actions, rewards, TARGET[contexts, actions] / LOGGING[actions]


def robust(seed):
    """The doubly robust estimate of one simulated log."""
    contexts, actions, rewards, weights = logs(seed)
    model = cross_fitted(contexts, actions, rewards, (2, 3))
    expected = (TARGET[contexts] * model).sum(axis=1)
    predicted = model[np.arange(len(actions)), actions]
    return doubly_robust(rewards, weights, predicted, expected)


ESTIMATORS = {"snips": lambda seed: snips(*logs(seed)[2:]), "dr": robust}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_interval_covers_the_truth(name):
    """95 % intervals cover 90 to 97 % of 400 replays, and the mean is right."""
    estimates = [ESTIMATORS[name](seed) for seed in range(400)]
    covered = np.mean([each.lower <= TRUTH <= each.upper for each in estimates])

    assert 0.90 <= covered <= 0.975
    assert np.mean([each.value for each in estimates]) == pytest.approx(TRUTH, abs=0.01)
    assert np.mean([each.mean_weight for each in estimates]) == pytest.approx(1.0, abs=0.02)


def test_a_model_of_the_reward_makes_it_surer():
    """What the model explains need not be weighted."""
    errors = {
        name: np.std([estimator(seed).value for seed in range(100)])
        for name, estimator in ESTIMATORS.items()
    }
    assert errors["dr"] < errors["snips"]


def test_equal_weights_are_worth_every_decision():
    """And one dominant weight is worth one."""
    assert effective_sample_size(np.full(50, 0.7)) == pytest.approx(50)
    assert effective_sample_size(np.array([1e6, 1.0, 1.0])) == pytest.approx(1.0, abs=1e-4)
    assert effective_sample_size(np.zeros(3)) == 0.0


def test_clipping_trades_bias_for_variance():
    """The estimate moves towards the logged mean and varies less."""
    _, _, rewards, weights = logs(1)
    whole, cut = snips(rewards, weights), snips(rewards, clipped(weights, 1.0))

    assert cut.effective_count > whole.effective_count
    assert abs(cut.value - rewards.mean()) < abs(whole.value - rewards.mean())


def test_without_decisions_nothing_is_known():
    """No value beats an interval without ends."""
    assert snips(np.zeros(0), np.zeros(0)) == NOTHING_KNOWN
    assert snips(np.ones(5), np.zeros(5)) == NOTHING_KNOWN


def experiences(maker, snapshot, count):
    """Judged decisions of `snapshot`, whose reward falls with distance from 0.4."""
    for _ in range(count):
        observation = maker.observed("chat")
        decision = decide(snapshot, observation, Constraints(), Mode.APPLY, maker.generator)
        quality = 0.5 - abs(decision.policy_temperature - 0.4)
        logged = maker.logged(decision, latency_weight=0.0)
        yield Experience(logged, quality, 0.0)


@pytest.mark.parametrize("kind", ["thompson", "squashed_gaussian"])
def test_a_policy_is_valued_right_on_what_another_version_logged(maker, kind):
    """From propensities of a grid as from densities."""
    logging = PolicySnapshot(1, prior(kind), 0)
    if kind == "thompson":
        moved = bandit.updated(
            prior(kind), bandit.context_of("chat"), Action(0.4), 1.0, weight=10.0
        )
        target = PolicySnapshot(2, moved, 0)
    else:
        bias = np.full(7, -0.2)
        target = PolicySnapshot(2, dataclasses.replace(prior(kind), task_bias=bias), 0)
    truth = np.mean([each.quality for each in experiences(maker, target, 3000)])
    estimate = evaluate(target, list(experiences(maker, logging, 3000)))

    assert estimate.lower - 0.01 <= truth <= estimate.upper + 0.01
    assert estimate.mean_weight == pytest.approx(1.0, abs=0.1)


def test_a_density_and_a_grid_cannot_weigh_each_other(maker):
    """There is no ratio of a probability and a density: nothing is known."""
    gaussian = PolicySnapshot(1, prior("squashed_gaussian"), 0)
    thompson = PolicySnapshot(1, prior("thompson"), 0)

    assert evaluate(thompson, list(experiences(maker, gaussian, 20))) == NOTHING_KNOWN
    assert evaluate(gaussian, list(experiences(maker, thompson, 20))) == NOTHING_KNOWN
