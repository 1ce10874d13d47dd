"""Learners without a prior; settings tuned on the train part, over seeds not reported."""

from __future__ import annotations

import numpy as np

from benchmarks.policy.grids import TASKS, Grid
from benchmarks.policy.learners import Thompson, Tuning, replay

TRIALS, TUNING_SEEDS = 20, 4
_SEED = 99


def unborn(kind: type[Thompson], of: Grid, seeds: int, tuning: Tuning) -> Thompson:
    """Return a learner of a kind over a grid, without a prior."""
    return kind(seeds, TASKS, of.actions, None, tuning)


def tuned(of: Grid) -> Tuning:
    """Return the best of TRIALS random settings of Thompson sampling."""
    generator, best = np.random.default_rng(5), (-np.inf, Tuning())
    for _ in range(TRIALS):
        tuning = Tuning(
            caution=float(generator.uniform(0.1, 1.0)),
            last_strength=float(2.0 ** generator.uniform(-1, 3)),
            fading=1.0 - float(10.0 ** generator.uniform(-5, -3)),
        )
        earned = _trial(of, unborn(Thompson, of, TUNING_SEEDS, tuning))
        best = max(best, (earned, tuning), key=lambda each: each[0])
    return best[1]


def _trial(of: Grid, learner: Thompson) -> float:
    curve = replay(learner, lambda _: of.world, TUNING_SEEDS, 2000, seed=_SEED)
    return float(curve[:, -1000:].mean())
