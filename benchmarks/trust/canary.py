"""Trials of candidates through the product's own count of them, many times over.

The live policy and the candidate both decode at the best temperature of each task; the
candidate's rewards are lower by a given drop. Rewards are centred on the mean of their
task, as the learner does, and the candidate decides a tenth of sessions.
"""

from __future__ import annotations

import numpy as np

from benchmarks.trust.users import MEANS, TEMPERATURES, drawn
from services.controller.promotion import Verdict
from services.controller.rollout import Rollout, Stage

SHARE = 0.1


def run(drop: float, seed: int) -> Rollout:
    """Return a trial at its end: after a verdict of the sequential test."""
    generator, best = np.random.default_rng(seed), MEANS.argmax(axis=1)
    rollout = Rollout(1, 1, Stage.CANARY, SHARE, promotes=True)
    while rollout.stage.is_running and rollout.canary.verdict is Verdict.HOLD:
        task = int(generator.integers(len(MEANS)))
        mine = bool(generator.random() < SHARE)
        reward = drawn(task, TEMPERATURES[best[task]], generator) - MEANS[task].max()
        # both draw alike: every action weighs 1
        rollout = rollout.judged(mine, 1.0, reward - drop * mine, agreed=True)
    return rollout


def measured(runs: int) -> dict[str, object]:
    """Return how trials end, without change and with a drop of 0.05."""
    found: dict[str, object] = {}
    for name, drop in (("no change", 0.0), ("drop of 0.05", 0.05)):
        trials = [run(drop, seed) for seed in range(runs)]
        ends = [each.stage for each in trials]
        found[name] = {
            "runs": runs,
            "rolled_back": ends.count(Stage.ROLLED_BACK) / runs,
            "promoted": ends.count(Stage.PROMOTED) / runs,
            "median_requests": float(np.median([each.canary.seen for each in trials])),
        }
    return found
