"""What a learner does when the world moves under it: rows 6 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.policy import newborn
from benchmarks.policy.grids import TASKS, Floats, Grid
from benchmarks.policy.learners import Thompson, Tuning, World
from benchmarks.policy.learners import replay as replayed
from benchmarks.policy.tuning import unborn
from services.controller.learning.lesson import LearnerState
from services.controller.learning.replay import Buffer
from services.controller.policies import gaussian
from services.controller.policies.elastic import Elastic

FIRST, ONE_TASK = 2000, 2000
_DRAWS = 200


def moved(of: Grid, seeds: int, at: int = 3000, window: int = 100) -> dict[str, Any]:
    """Row 6: rewards move to the next task's at t = 3,000."""
    before, after = of.world, World(np.roll(of.world.table, 1, axis=0))
    learner = unborn(Thompson, of, seeds, Tuning())
    curve = replayed(learner, lambda step: before if step < at else after, seeds, 2 * at)
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
    generator, learner = np.random.default_rng(3), unborn(Thompson, of, seeds, Tuning())
    replayed(learner, lambda _: of.world, seeds, feedbacks)
    before = learner.policy(generator, 400)
    replayed(learner, lambda _: of.world, seeds, 2000, seed=8, tasks=(0,))
    after = learner.policy(generator, 400)
    gap = ((before - after) * of.world.means).sum(axis=2)[:, 1:].mean(axis=1)
    return {"loss": float(gap.mean()), "worst_seed": float(gap.max())}


def forgotten_by_gaussian(of: Grid, seeds: int) -> dict[str, Any]:
    """Row 7 of the squashed Gaussian: with what its learner has against forgetting, the replay
    buffer and the elastic anchor, and without both. The one task is the first or the last, of
    which the one is best cold and the other warm.
    """
    ones = (0, TASKS - 1)
    losses = {True: np.zeros((seeds, len(ones))), False: np.zeros((seeds, len(ones)))}
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        begin = _taught(of.world, LearnerState(gaussian.prior()), generator, range(TASKS), FIRST)
        for remembers, found in losses.items():
            for place, task in enumerate(ones):
                end = _taught(of.world, begin, generator, [task], ONE_TASK, remembers=remembers)
                lost = _values(of.world, begin, begin) - _values(of.world, end, begin)
                found[seed, place] = np.delete(lost, task).mean()
    return {
        name: {"loss": float(found.mean(axis=0).max()), "worst_seed": float(found.max())}
        for name, found in zip(("with", "without"), losses.values(), strict=True)
    }


def _taught(
    world: World,
    state: LearnerState,
    generator: np.random.Generator,
    tasks: Sequence[int],
    count: int,
    *,
    remembers: bool = True,
) -> LearnerState:
    """Return the state after `count` requests of `tasks`; not `remembers`: without memory."""
    for _ in range(count):
        state, _ = newborn.lived(world, state, int(generator.choice(tasks)), generator)
        if not remembers:
            bare = replace(state.memory, replay=Buffer(), elastic=Elastic())
            state = replace(state, memory=bare)
    return state


def _values(world: World, state: LearnerState, as_sure_as: LearnerState) -> Floats:
    """Return what each task earns under `state`, [tasks], exploring as widely as another does."""
    generator = np.random.default_rng(0)
    found = np.zeros((TASKS, _DRAWS))
    for task, draw in np.ndindex(found.shape):
        logged = newborn.decided(state.parameters, as_sure_as.feedback_count, task, generator)
        found[task, draw] = newborn.mean_at(world, task, logged.policy_temperature)
    return found.mean(axis=1)
