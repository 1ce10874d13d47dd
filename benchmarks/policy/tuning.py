"""Learners with settings tuned on the train part, over seeds that are not reported."""

from __future__ import annotations

import numpy as np

from benchmarks.policy.grids import TASKS, Grid
from benchmarks.policy.learners import Learner, LinUcb, Thompson, Tuning, replay

TRIALS, TUNING_SEEDS = 20, 4
_SEED = 99


def thompson(of: Grid, seeds: int, tuning: Tuning) -> Thompson:
    """Return Thompson sampling over a grid, without a prior."""
    return Thompson(seeds, TASKS, of.actions, None, tuning)


def tuned_thompson(of: Grid) -> Tuning:
    """Return the best of TRIALS random settings."""
    generator, best = np.random.default_rng(5), (-np.inf, Tuning())
    for _ in range(TRIALS):
        tuning = Tuning(
            caution=float(generator.uniform(0.1, 1.0)),
            last_strength=float(2.0 ** generator.uniform(-1, 3)),
            fading=1.0 - float(10.0 ** generator.uniform(-5, -3)),
        )
        earned = _trial(of, thompson(of, TUNING_SEEDS, tuning))
        best = max(best, (earned, tuning), key=lambda each: each[0])
    return best[1]


def tuned_linucb(of: Grid) -> tuple[float, float]:
    """Return the best of TRIALS random pairs of width and ridge."""
    generator, best = np.random.default_rng(6), (-np.inf, 0.1, 1.0)
    for _ in range(TRIALS):
        alpha = float(10.0 ** generator.uniform(-2.5, 0.0))
        ridge = float(10.0 ** generator.uniform(-1.0, 1.0))
        learner = LinUcb(TUNING_SEEDS, TASKS, of.size, alpha, ridge)
        best = max(best, (_trial(of, learner), alpha, ridge))
    return best[1], best[2]


def _trial(of: Grid, learner: Learner) -> float:
    curve = replay(learner, lambda _: of.world, TUNING_SEEDS, 2000, seed=_SEED)
    return float(curve[:, -1000:].mean())
