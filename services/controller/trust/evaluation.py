"""What a policy would have earned, told from decisions that another one made.

Each reward r was earned by an action that the logging policy drew with a known
probability; w is how much more likely the target policy is to draw it.

    SNIPS = sum w r / sum w                            (Swaminathan & Joachims 2015)
    DR    = mean(m_target + w (r - m_logged))          (Dudik, Langford & Li 2011)
    ESS   = (sum w)^2 / sum w^2

`m` is a model of the reward: it takes out what is known without weighting, and
an estimate stays right where either the model or the weights are. Intervals are
normal, from the variance of each term's influence on the estimate (the delta
method for SNIPS); tests hold their coverage to 90 to 97 %. Clipping a weight
trades a bias towards the logging policy for variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from services.controller.decisions.experience import Experience, reward
from services.controller.policies.policy import PolicySnapshot

Vector = NDArray[np.float64]

CONFIDENCE = 0.95
_FOLDS = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; `effective_count` is how many decisions it is worth.

    `mean_weight` is 1 within its error where the logged probabilities are right.
    """

    value: float
    lower: float
    upper: float
    count: int
    effective_count: float
    mean_weight: float


NOTHING_KNOWN = Estimate(0.0, -math.inf, math.inf, 0, 0.0, 0.0)
"""The estimate from no decisions at all."""


def effective_sample_size(weights: Vector) -> float:
    """Return (sum w)^2 / sum w^2, in [0, n]."""
    squares = float(np.sum(weights * weights))
    return float(np.sum(weights)) ** 2 / squares if squares > 0.0 else 0.0


def clipped(weights: Vector, largest: float) -> Vector:
    """Return the weights, none above `largest`."""
    return np.minimum(weights, largest)


def weights_of(target: PolicySnapshot, experiences: Sequence[Experience]) -> Vector:
    """Return how much more likely `target` is to draw each logged action, [n].

    An action that `target` could not draw weighs nothing. Experiences must be
    of decisions that were explored.
    """
    return np.array([target.importance(each.decision) for each in experiences])


def evaluate(
    target: PolicySnapshot, experiences: Sequence[Experience], largest_weight: float = math.inf
) -> Estimate:
    """Return the SNIPS estimate of `target` on what was logged; only explored decisions count."""
    explored = [each for each in experiences if each.decision.explored]
    rewards = np.array([reward(each) for each in explored])
    return snips(rewards, clipped(weights_of(target, explored), largest_weight))


def snips(rewards: Vector, weights: Vector, confidence: float = CONFIDENCE) -> Estimate:
    """Return the self-normalised estimate of rewards [n] under weights [n]."""
    total = float(np.sum(weights))
    if len(rewards) < 2 or total <= 0.0:
        return NOTHING_KNOWN
    value = float(weights @ rewards) / total
    influence = weights * (rewards - value) * (len(rewards) / total)
    return _estimate(value, influence, weights, confidence)


def doubly_robust(
    rewards: Vector,
    weights: Vector,
    predicted: Vector,
    expected: Vector,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return the doubly robust estimate; all [n].

    `predicted` is the model's reward of the logged action, `expected` its mean
    reward over what the target would draw in the same context. The model must
    not have seen the reward it predicts: see `cross_fitted`.
    """
    if len(rewards) < 2:
        return NOTHING_KNOWN
    terms = expected + weights * (rewards - predicted)
    value = float(np.mean(terms))
    return _estimate(value, terms - value, weights, confidence)


def cross_fitted(
    contexts: NDArray[np.int64], actions: NDArray[np.int64], rewards: Vector, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the mean reward of each action in the context of each decision, [n, actions].

    `shape` is (contexts, actions). Every decision is predicted from the half of
    the others it is not in, so that its own reward has no part in it; a cell
    without data takes the mean of its half.
    """
    folds = np.arange(len(rewards)) % _FOLDS
    predictions = np.zeros((len(rewards), shape[1]))
    for fold in range(_FOLDS):
        seen = folds != fold
        sums, counts = np.zeros(shape), np.zeros(shape)
        np.add.at(sums, (contexts[seen], actions[seen]), rewards[seen])
        np.add.at(counts, (contexts[seen], actions[seen]), 1.0)
        overall = float(np.mean(rewards[seen])) if seen.any() else 0.0
        table = np.where(counts > 0, sums / np.maximum(counts, 1.0), overall)
        predictions[~seen] = table[contexts[~seen]]
    return predictions


def interval(error: float, confidence: float = CONFIDENCE) -> float:
    """Return how far a normal interval reaches to either side of an estimate."""
    return NormalDist().inv_cdf(0.5 + confidence / 2.0) * error


def _estimate(value: float, influence: Vector, weights: Vector, confidence: float) -> Estimate:
    count = len(influence)
    error = math.sqrt(float(influence @ influence) / (count - 1) / count)
    reach = interval(error, confidence)
    return Estimate(
        value=value,
        lower=value - reach,
        upper=value + reach,
        count=count,
        effective_count=effective_sample_size(weights),
        mean_weight=float(np.mean(weights)),
    )
