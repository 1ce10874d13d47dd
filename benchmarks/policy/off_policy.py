"""Row 8: what a policy would have earned, told from the log of another one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.policy.arms import TEMPERATURES
from benchmarks.policy.grids import TASKS, Floats, Grid
from benchmarks.policy.judging import best_by_task, best_static, one_hot
from services.controller.trust import curves
from services.controller.trust.evaluation import Estimate, cross_fitted, doubly_robust, snips


def rows(of: Grid, replays: int = 300, count: int = 1000) -> dict[str, Any]:
    """Half uniform, half best static logs; the target is the best action of each task."""
    generator = np.random.default_rng(4)
    logging = np.full(of.size, 0.5 / of.size)
    logging[best_static(of.train)] += 0.5
    target = best_by_task(of.train)
    truth = float(of.world.means[np.arange(TASKS), target].mean())
    found: dict[str, list[Estimate]] = {}
    for _ in range(replays):
        tasks = generator.integers(TASKS, size=count)
        prompts = generator.integers(of.world.table.shape[1], size=count)
        actions = generator.choice(of.size, size=count, p=logging)
        rewards = of.world.table[tasks, prompts, actions]
        weights = (actions == target[tasks]) / logging[actions]
        for name, each in _estimates(tasks, actions, rewards, weights, target).items():
            found.setdefault(name, []).append(each)
    judged = {name: _judged(each, truth) for name, each in found.items()}
    return {"estimates": judged, "floors": _floors(of, logging, target, count)}


def _estimates(
    tasks: Floats, actions: Floats, rewards: Floats, weights: Floats, target: Floats
) -> dict[str, Estimate]:
    own, shape = np.arange(len(actions)), (TASKS, len(TEMPERATURES))
    model = cross_fitted(tasks, actions, rewards, shape)
    seen, wanted = curves.cells(tasks, actions, rewards, shape), one_hot(target, shape[1])
    return {
        "SNIPS": snips(rewards, weights),
        "DR": doubly_robust(rewards, weights, model[own, actions], model[own, target[tasks]]),
        "curves": curves.smoothed(seen, np.array(TEMPERATURES), wanted, weights),
    }


def _judged(estimates: list[Estimate], truth: float) -> dict[str, float]:
    errors = np.array([each.value - truth for each in estimates])
    covered = [each.lower <= truth <= each.upper for each in estimates]
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "bias": float(errors.mean()),
        "coverage": float(np.mean(covered)),
    }


def _floors(of: Grid, logging: Floats, target: Floats, count: int) -> dict[str, float]:
    """How sure anything can be: the mean of as many rewards of the target itself, and the
    least error of estimates that are right whatever the rewards (Hahn 1998).
    """
    places = (np.arange(TASKS), target)
    within, means = of.world.table.var(axis=1)[places], of.world.means[places]
    return {
        "on_policy": math.sqrt((within.mean() + means.var()) / count),
        "unbiased": math.sqrt(((within / logging[target]).mean() + means.var()) / count),
    }
