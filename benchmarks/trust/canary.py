"""Trials of candidates through the product's own count of them, many times over.

The live policy and the candidate both decode at the best temperature of each task; the
candidate's rewards are lower by a given drop, everywhere or in one task alone. Two kinds of
requests: the simulated users of `users`, three tasks, and the rewards that the study's
held-out prompts truly earned, seven tasks. Rewards are centred on the mean of their task,
as the learner does, and the candidate decides a tenth of sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kept import Steps
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.matrix import Matrix, parts
from benchmarks.trust.users import MATRIX, MEANS, TEMPERATURES, drawn
from services.controller.trust.promotion import Verdict
from services.controller.trust.rollout import Rollout, Stage

SHARE, DROP = 0.1, 0.05
Generator = np.random.Generator
Draw = Callable[[int, Generator], float]


@dataclass(frozen=True)
class Traffic:
    """Requests of several kinds, equally often; `draw` gives a centred reward of one kind."""

    kinds: tuple[str, ...]
    draw: Draw


def simulated() -> Traffic:
    """Return the users of the attacks, at the best temperature of each task."""
    best = [TEMPERATURES[each] for each in MEANS.argmax(axis=1)]
    names = ("facts", "lists", "stories")
    return Traffic(names, lambda task, g: drawn(task, best[task], g) - float(MEANS[task].max()))


def recorded() -> Traffic:
    """Return what held-out prompts earned at the best temperature of their family."""
    matrix = Matrix.load(MATRIX)
    arms = [matrix.arms.index(f"top_n_sigma {each}") for each in TEMPERATURES]
    _, held_out = parts(matrix.reward[..., arms, 0])
    centred = [_centred(each.reshape(-1, len(arms))) for each in held_out]
    names = tuple(family.name for family in FAMILIES)
    return Traffic(names, lambda task, g: float(g.choice(centred[task])))


def _centred(rewards: NDArray[np.float32]) -> NDArray[np.float32]:
    known = rewards[~np.isnan(rewards).any(axis=1)]
    best = known[:, int(known.mean(axis=0).argmax())]
    return np.asarray(best - best.mean())


def run(traffic: Traffic, drops: Sequence[float], seed: int) -> Rollout:
    """Return a trial at its end: after a verdict of the sequential test."""
    generator = np.random.default_rng(seed)
    rollout = Rollout(1, 1, Stage.CANARY, SHARE, promotes=True)
    while rollout.stage.is_running and rollout.canary.verdict is Verdict.HOLD:
        task = int(generator.integers(len(traffic.kinds)))
        mine = bool(generator.random() < SHARE)
        reward = traffic.draw(task, generator) - drops[task] * mine
        # both draw alike: every action weighs 1
        rollout = rollout.judged(task, mine, 1.0, reward, agreed=True)
    return rollout


def steps(runs: int) -> Steps:
    """Return how trials end, as steps: by traffic, without change and with a mean drop of 0.05.

    A drop in one task alone is tried a third as often: there is one for each task.
    """
    return {
        f"{name}/{drop}": partial(
            _ends, traffic, drops, runs // 3 if drop.startswith("only") else runs
        )
        for name, traffic in (("simulated", simulated()), ("recorded", recorded()))
        for drop, drops in _drops(traffic).items()
    }


def _drops(traffic: Traffic) -> Mapping[str, Sequence[float]]:
    count = len(traffic.kinds)
    found: dict[str, Sequence[float]] = {"no change": [0.0] * count, "everywhere": [DROP] * count}
    for place, kind in enumerate(traffic.kinds):
        found[f"only {kind}"] = [DROP * count * (place == each) for each in range(count)]
    return found


def _ends(traffic: Traffic, drops: Sequence[float], runs: int) -> dict[str, Any]:
    trials = [run(traffic, drops, seed) for seed in range(runs)]
    ends = [each.stage for each in trials]
    return {
        "runs": runs,
        "rolled_back": ends.count(Stage.ROLLED_BACK) / runs,
        "promoted": ends.count(Stage.PROMOTED) / runs,
        "median_requests": float(np.median([each.canary.seen for each in trials])),
    }
