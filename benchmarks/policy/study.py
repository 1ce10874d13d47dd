"""The rows of the study, computed from the stored matrix alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.kept import Kept, Steps, computed
from benchmarks.policy import judging, newborn, off_policy, shocks
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.grids import TASKS, Floats, Grid, Grids, grid
from benchmarks.policy.judging import (
    best_by_task,
    best_by_task_of,
    best_static,
    difference,
    one_hot,
)
from benchmarks.policy.learners import LinUcb, Thompson, Tuning, replay, world
from benchmarks.policy.matrix import CAP_SHARES, Matrix, parts
from benchmarks.policy.tuning import tuned, unborn

Tell = Callable[[str], None]

FEEDBACKS = 6000
FEW = 3
"""Seeds of what runs the product's own learner one step after another."""
_STORIES = [family.name for family in FAMILIES].index("stories")
assert _STORIES == TASKS - 1


class Study:
    """One matrix and its grids; every method is a part of the result."""

    def __init__(self, matrix: Matrix, seeds: int = 20, tell: Tell = print) -> None:
        self.matrix, self.seeds, self.tell = matrix, seeds, tell
        self.grids = Grids.of(matrix)

    def run(self, kept: Kept) -> dict[str, Any]:
        """Compute every row that `kept` does not hold yet, telling of progress."""
        plain = self.grids.temperatures
        steps: Steps = {
            "coverage": self.coverage,
            "statics": self.statics,
            **{f"learned/{of.name}": partial(self.learned, of) for of in self.grids},
            "rules": self.rules,
            "moved": lambda: shocks.moved(plain, self.seeds),
            "forgotten": lambda: shocks.forgotten(plain, self.seeds, FEEDBACKS),
            "forgotten_by_gaussian": lambda: shocks.forgotten_by_gaussian(
                plain, min(self.seeds, FEW)
            ),
            "off_policy": lambda: off_policy.rows(plain),
            "newborn": self.newborn,
        }
        found = computed(steps, kept, self.tell)
        return {**found, "seconds": round(kept.seconds, 1)}

    def coverage(self) -> dict[str, Any]:
        """How many prompts were decoded, by part."""
        have = ~np.isnan(self.matrix.quality[:, :, :, 0, 0])
        train, held_out = parts(have)
        return {
            family.name: {
                "level": family.level,
                "task": family.task,
                "cap": family.cap,
                "train": int(train[index].any(axis=1).sum()),
                "held_out": int(held_out[index].any(axis=1).sum()),
                "answers": int(have[index].sum()),
            }
            for index, family in enumerate(FAMILIES)
        }

    def statics(self) -> dict[str, Any]:
        """Fixed actions chosen on train, judged on held-out prompts; and the headroom."""
        found = {}
        for of in self.grids:
            static, by_task = best_static(of.train), best_by_task(of.train)
            base = of.static
            own = judging.values(of.held_out, one_hot(by_task, of.size))
            found[of.name] = {
                "static": of.action(self.matrix, static),
                "static_value": judging.mean_value(base),
                "by_task": {
                    family.name: of.action(self.matrix, int(by_task[index]))
                    for index, family in enumerate(FAMILIES)
                },
                "by_task_value": judging.mean_value(own),
                "headroom": difference(own, base).as_dict(),
                "train_headroom": of.world.best_by_task - of.world.best_static,
            }
        return found

    def learned(self, of: Grid) -> dict[str, Any]:
        """Rows 1, 2, 5: learners tuned on train, judged on held-out prompts."""
        tuning = tuned(of)
        return {
            "Thompson, the product's settings": self._judged(of, Thompson, Tuning()),
            "Thompson, tuned": self._judged(of, Thompson, tuning),
            "LinUCB, the product's settings": self._judged(of, LinUcb, Tuning()),
            "tuning": asdict(tuning),
        }

    def _judged(self, of: Grid, kind: type[Thompson], tuning: Tuning) -> dict[str, Any]:
        learner = unborn(kind, of, self.seeds, tuning)
        curve = replay(learner, lambda _: of.world, self.seeds, FEEDBACKS)
        policy = learner.policy(np.random.default_rng(1), 400).mean(axis=0)
        own, base = judging.values(of.held_out, policy), of.static
        t_only = self.grids.temperatures.static
        last = curve[:, -500:].mean(axis=1)
        static, oracle = of.world.best_static, of.world.best_by_task
        regret = np.cumsum(static - curve.mean(axis=0))
        behind = np.flatnonzero(regret > 0.0)
        crossed = 0 if len(behind) == 0 else int(behind[-1]) + 2
        gained = difference(own, base)
        headroom = judging.mean_value(
            judging.values(of.held_out, one_hot(best_by_task(of.train), of.size))
        ) - judging.mean_value(base)
        return {
            "value": judging.mean_value(own),
            "against_static": gained.as_dict(),
            "against_static_temperature": difference(own, t_only).as_dict(),
            "by_family": {
                family.name: difference(own[[row]], base[[row]]).as_dict()
                for row, family in enumerate(FAMILIES)
            },
            "without_stories": difference(own[:_STORIES], base[:_STORIES]).as_dict(),
            "against_warm": self._against_warm(of, policy),
            "share_of_headroom_held_out": gained.mean / headroom if headroom > 0 else None,
            "share_of_headroom_train": float((last.mean() - static) / (oracle - static)),
            "last_500_seed_deviation": float(last.std(ddof=1)),
            "crosses_at": crossed if crossed <= FEEDBACKS else None,
            "curve": [float(each) for each in curve.mean(axis=0).reshape(-1, 100).mean(axis=1)],
            "judges": self._judges(of, policy),
            "tokens": self._tokens(of, policy),
        }

    def _against_warm(self, of: Grid, policy: Floats) -> dict[str, Any]:
        """The same policy against T = 1.0 with nothing cut: what is easy to beat."""
        warm = self.matrix.arms.index("none 1.0")
        rewards = parts(self.matrix.reward[..., [warm], 0])[1]
        base = judging.values(rewards, np.ones((TASKS, 1)))
        return difference(judging.values(of.held_out, policy), base).as_dict()

    def _judges(self, of: Grid, policy: Floats) -> dict[str, Any]:
        """Metrics that never drove learning: policy minus static, and the policy's own."""
        found = {}
        static = one_hot(np.full(TASKS, best_static(of.train)), of.size)
        for name in ("rouge", "bleu", "fresh"):
            cells = getattr(self.matrix, name)[..., list(of.arms), :][..., list(of.caps)]
            cells = parts(cells.reshape(*cells.shape[:3], -1))[1]
            known = ~np.isnan(cells).all(axis=(1, 2, 3))
            own = judging.values(cells[known], policy[known])
            base = judging.values(cells[known], static[known])
            found[name] = {"value": judging.mean_value(own), **difference(own, base).as_dict()}
        return found

    def _tokens(self, of: Grid, policy: Floats) -> float:
        cells = self.matrix.tokens[..., list(of.arms), :][..., list(of.caps)]
        cells = parts(cells.reshape(*cells.shape[:3], -1))[1]
        return judging.mean_value(judging.values(cells, policy))

    def rules(self) -> dict[str, Any]:
        """Row 3: rule-based programs, each the best of its settings and caps on train; beside
        them our learner over caps as well that hears as many answers as they were chosen from.
        """
        found = {}
        own = self.grids.temperatures
        wide = grid(self.matrix, "T x cap", own.arms, range(len(CAP_SHARES)))
        ours, _ = self._earned(own, FEEDBACKS)
        informed, leading = self._earned(wide, wide.world.table.size)
        for name in ("edt", "dynatemp", "mirostat", "min_p", "top_n_sigma"):
            arms = [i for i, arm in enumerate(self.matrix.arms) if arm.split()[0] == name]
            of = grid(self.matrix, name, arms, range(len(CAP_SHARES)))
            by_task = judging.values(of.held_out, one_hot(best_by_task(of.train), of.size))
            as_few = judging.values(of.held_out, best_by_task_of(of.world.table, FEEDBACKS))
            found[name] = {
                "setting": of.action(self.matrix, best_static(of.train)),
                "trials": of.size,
                "value": judging.mean_value(of.static),
                "ours_minus_it": difference(ours, of.static).as_dict(),
                "by_task_value": judging.mean_value(by_task),
                "ours_minus_it_by_task": difference(ours, by_task).as_dict(),
                "by_task_answers": int(of.world.table.size),
                "as_few_by_task_value": judging.mean_value(as_few),
                "ours_minus_it_as_few_by_task": difference(ours, as_few).as_dict(),
                "informed_minus_it_by_task": difference(informed, by_task).as_dict(),
                "leading_minus_it_by_task": difference(leading, by_task).as_dict(),
            }
        return found

    def _earned(self, of: Grid, feedbacks: int) -> tuple[Floats, Floats]:
        """What Thompson sampling earns on held-out prompts after so much feedback on train ones:
        as it explores, and where it took the highest mean.
        """
        learner = unborn(Thompson, of, self.seeds, Tuning())
        replay(learner, lambda _: of.world, self.seeds, feedbacks)
        policies = learner.policy(np.random.default_rng(1), 400), learner.leaders()
        exploring, leading = (judging.values(of.held_out, each.mean(axis=0)) for each in policies)
        return exploring, leading

    def newborn(self) -> dict[str, Any]:
        """What a new installation earns on prompts that the shipped prior has not seen."""
        of = self.grids.temperatures
        return newborn.rows(of.world, world(of.held_out), self.seeds)
