"""What a policy would have earned, told by a curve of reward along temperature in each task.

Weights see no likeness between actions: what was logged at 0.4 says nothing of 0.6, so no
unbiased estimate of an action that was rarely logged can be sure. Rewards however change
little between neighbouring temperatures. Here the mean rewards of a task are one draw of a
Gaussian process (Rasmussen & Williams 2006, equations 2.23 and 2.24) over temperature,

    k(T, T') = LEVEL^2 + SPREAD^2 exp(-(T - T')^2 / (2 LENGTH^2)) + ROUGHNESS^2 [T = T']

with the noise that the rewards of each have. SPREAD says that a reward in [0, 1] may
well change by a third over the range of temperatures, LENGTH how far apart two temperatures
must be to differ, ROUGHNESS by how much one of them may stand out: with enough rewards each
temperature has its own mean, whatever its neighbours earn. The value of a policy is the mean
of its actions over the curves, with the spread that the posterior gives it.

A curve draws a peak towards its neighbours: the estimate has a small bias, downwards for
policies that pick the best, and half the variance. Where that is not wanted,
`evaluation.doubly_robust` is right on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.controller.trust.evaluation import (
    CONFIDENCE,
    NOTHING_KNOWN,
    Estimate,
    effective_sample_size,
    interval,
)

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LEVEL, SPREAD, LENGTH, ROUGHNESS = 1.0, 0.35, 1.0, 0.015
# As many rewards with the noise of the whole task are added to those of each action, and as
# many with the noise of all tasks to those of a task.
_BELIEVED_AS = 3.0
_LEAST_NOISE = 1e-4


@dataclass(frozen=True, slots=True)
class Cells:
    """How many rewards each action has in each context, their means, and the variance of one
    reward: [contexts, actions] each.
    """

    counts: Matrix
    means: Matrix
    noise: Matrix


def cells(
    contexts: NDArray[np.int64], actions: NDArray[np.int64], rewards: Vector, shape: tuple[int, int]
) -> Cells:
    """Sum up what was logged; `shape` is (contexts, actions)."""
    counts, sums, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    np.add.at(counts, (contexts, actions), 1.0)
    np.add.at(sums, (contexts, actions), rewards)
    np.add.at(squares, (contexts, actions), rewards * rewards)
    means = sums / np.maximum(counts, 1.0)
    within = np.maximum(squares - counts * means * means, 0.0)
    freedom = np.maximum(counts - 1.0, 0.0)
    by_task, of_task = within.sum(axis=1), freedom.sum(axis=1)
    overall = by_task.sum() / max(float(of_task.sum()), 1.0)
    task = (by_task + _BELIEVED_AS * overall) / (of_task + _BELIEVED_AS)
    noise = (within + _BELIEVED_AS * task[:, None]) / (freedom + _BELIEVED_AS)
    return Cells(counts, means, np.maximum(noise, _LEAST_NOISE))


def smoothed(
    seen: Cells,
    temperatures: Vector,
    target: Matrix,
    weights: Vector,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return what a policy would earn that takes action a in context c by target[c, a].

    `temperatures` [actions] places the actions along the curves; contexts come as often as
    they were logged. `weights` [n] of the logged decisions are not used but for the two
    checks that an estimate carries: how much the log is worth, and whether its
    probabilities are right.
    """
    share = seen.counts.sum(axis=1)
    total = float(share.sum())
    if total < 2.0:
        return NOTHING_KNOWN
    share = share / total
    gram = _gram(temperatures)
    posteriors = [_posterior(gram, seen, context) for context in range(len(share))]
    values = np.array([row @ mean for row, (mean, _) in zip(target, posteriors, strict=True)])
    spreads = np.array([row @ cov @ row for row, (_, cov) in zip(target, posteriors, strict=True)])
    value = float(share @ values)
    between = float(share @ (values - value) ** 2) / total
    reach = interval(math.sqrt(float(share**2 @ spreads) + between), confidence)
    effective, mean_weight = effective_sample_size(weights), float(np.mean(weights))
    return Estimate(value, value - reach, value + reach, int(total), effective, mean_weight)


def _gram(temperatures: Vector) -> Matrix:
    """Return the prior covariances of the actions, [actions, actions]."""
    gaps = temperatures[:, None] - temperatures[None, :]
    smooth = LEVEL**2 + SPREAD**2 * np.exp(-(gaps**2) / (2.0 * LENGTH**2))
    return np.asarray(smooth + ROUGHNESS**2 * np.eye(len(temperatures)))


def _posterior(gram: Matrix, seen: Cells, context: int) -> tuple[Vector, Matrix]:
    """Return mean [actions] and covariance [actions, actions] of the curve of a context."""
    counts = seen.counts[context]
    known = counts > 0
    noise = np.diag(seen.noise[context, known] / counts[known])
    gain = np.linalg.solve(gram[np.ix_(known, known)] + noise, gram[known]).T
    return gain @ seen.means[context, known], gram - gain @ gram[known]
