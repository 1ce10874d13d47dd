"""What a learner does when the world moves under it: rows 6 and 7."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.policy.grids import TASKS, Grid
from benchmarks.policy.learners import Tuning, World, replay
from benchmarks.policy.tuning import thompson


def moved(of: Grid, seeds: int, at: int = 3000, window: int = 100) -> dict[str, Any]:
    """Row 6: rewards move to the next task's at t = 3,000."""
    before, after = of.world, World(np.roll(of.world.table, 1, axis=0))
    learner = thompson(of, seeds, Tuning())
    curve = replay(learner, lambda step: before if step < at else after, seeds, 2 * at)
    smooth = np.convolve(curve.mean(axis=0)[at:], np.ones(window) / window, mode="valid")
    back = np.flatnonzero(smooth >= after.best_by_task - 0.01)
    return {
        "before": float(curve[:, at - 500 : at].mean()),
        "oracle": after.best_by_task,
        "first_window": float(smooth[0]),
        "last_500": float(curve[:, -500:].mean()),
        "back_after_feedbacks_a_task": float(back[0] + window) / TASKS if len(back) else None,
        "curve": [float(each) for each in curve.mean(axis=0).reshape(-1, 100).mean(axis=1)],
    }


def forgotten(of: Grid, seeds: int, feedbacks: int) -> dict[str, Any]:
    """Row 7: what all other tasks lose while 2,000 feedbacks come for one of them."""
    generator, learner = np.random.default_rng(3), thompson(of, seeds, Tuning())
    replay(learner, lambda _: of.world, seeds, feedbacks)
    before = learner.policy(generator, 400)
    replay(learner, lambda _: of.world, seeds, 2000, seed=8, tasks=(0,))
    after = learner.policy(generator, 400)
    gap = ((before - after) * of.world.means).sum(axis=2)[:, 1:].mean(axis=1)
    return {"loss": float(gap.mean()), "worst_seed": float(gap.max())}
