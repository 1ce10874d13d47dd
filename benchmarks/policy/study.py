"""The rows of the study, computed from the stored matrix alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.policy import judging, newborn
from benchmarks.policy.arms import DEAR, STATIC
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.judging import best_by_task, best_static, difference, one_hot
from benchmarks.policy.learners import Learner, LinUcb, Thompson, Tuning, World, replay, world
from benchmarks.policy.matrix import CAP_SHARES, Matrix, parts
from services.controller.evaluation import cross_fitted, doubly_robust, snips

Floats = NDArray[Any]
Tell = Callable[[str], None]

FEEDBACKS, TRIALS, TUNING_SEEDS = 6000, 20, 4
TASKS = len(FAMILIES)
_STORIES = [family.name for family in FAMILIES].index("stories")
assert _STORIES == TASKS - 1


@dataclass(frozen=True)
class Grid:
    """A set of actions: indices of arms crossed with indices of caps, and its rewards."""

    name: str
    arms: tuple[int, ...]
    caps: tuple[int, ...]
    rewards: Floats

    @cached_property
    def train(self) -> Floats:
        """Rewards of the train part, [tasks, prompts, samples, actions]."""
        return parts(self.rewards)[0]

    @cached_property
    def held_out(self) -> Floats:
        """Rewards of the held-out part."""
        return parts(self.rewards)[1]

    @cached_property
    def world(self) -> World:
        """The train part as learners meet it."""
        return world(self.train)

    @property
    def size(self) -> int:
        """How many actions."""
        return int(self.rewards.shape[-1])


def grid(matrix: Matrix, name: str, arms: Iterable[int], caps: Iterable[int]) -> Grid:
    """Return the grid of `arms` x `caps`; an arm's caps are neighbours."""
    arms, caps = tuple(arms), tuple(caps)
    rewards = matrix.reward[..., list(arms), :][..., list(caps)]
    return Grid(name, arms, caps, rewards.reshape(*rewards.shape[:3], -1))


class Study:
    """One matrix and its grids; every method is a part of the result."""

    def __init__(self, matrix: Matrix, seeds: int = 20, tell: Tell = print) -> None:
        self.matrix, self.seeds, self.tell = matrix, seeds, tell
        plain = [i for i, arm in enumerate(STATIC) if arm.guard == "top_n_sigma"]
        # of what is not decoded for every prompt no policy can be judged on all of them
        every = [i for i, arm in enumerate(STATIC) if arm.name not in DEAR]
        self.temperatures = grid(matrix, "T", plain, (0,))
        self.guarded = grid(matrix, "T x guard", every, (0,))
        self.full = grid(matrix, "T x guard x cap", every, range(len(CAP_SHARES)))

    def action(self, of: Grid, index: int) -> str:
        """Return the name of an action."""
        arm, cap = divmod(index, len(of.caps))
        share = CAP_SHARES[of.caps[cap]]
        name = self.matrix.arms[of.arms[arm]]
        return name if share == 1.0 else f"{name}, cap {share:g}"

    def run(self) -> dict[str, Any]:
        """Compute every row, telling of progress."""
        began, found = time.monotonic(), {}
        steps = {
            "coverage": self.coverage,
            "statics": self.statics,
            "learned": self.learned,
            "rules": self.rules,
            "moved": self.moved,
            "forgotten": self.forgotten,
            "off_policy": self.off_policy,
            "newborn": self.newborn,
        }
        for number, (name, step) in enumerate(steps.items(), 1):
            found[name] = step()
            self.tell(f"[{number}/{len(steps)}] {name}: {time.monotonic() - began:.0f} s")
        found["seconds"] = round(time.monotonic() - began, 1)
        return found

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
        for of in (self.temperatures, self.guarded, self.full):
            static, by_task = best_static(of.train), best_by_task(of.train)
            base = self._static(of)
            own = judging.values(of.held_out, one_hot(by_task, of.size))
            found[of.name] = {
                "static": self.action(of, static),
                "static_value": judging.mean_value(base),
                "by_task": {
                    family.name: self.action(of, int(by_task[index]))
                    for index, family in enumerate(FAMILIES)
                },
                "by_task_value": judging.mean_value(own),
                "headroom": difference(own, base).as_dict(),
                "train_headroom": of.world.best_by_task - of.world.best_static,
            }
        return found

    def learned(self) -> dict[str, Any]:
        """Rows 1, 2, 5: learners tuned on train, judged on held-out prompts."""
        found: dict[str, Any] = {}
        for of in (self.temperatures, self.guarded, self.full):
            tuning = self._tuned_thompson(of)
            alpha, ridge = self._tuned_linucb(of)
            makers: dict[str, Callable[[int], Learner]] = {
                "Thompson, the product's settings": lambda n, of=of: self._thompson(
                    of, n, Tuning()
                ),
                "Thompson, tuned": lambda n, of=of, t=tuning: self._thompson(of, n, t),
                "LinUCB, tuned": lambda n, of=of, a=alpha, r=ridge: LinUcb(n, TASKS, of.size, a, r),
            }
            found[of.name] = {name: self._judged(of, make) for name, make in makers.items()}
            found[of.name]["tuning"] = {"Thompson": asdict(tuning), "LinUCB": [alpha, ridge]}
        return found

    def _judged(self, of: Grid, make: Callable[[int], Learner]) -> dict[str, Any]:
        learner = make(self.seeds)
        curve = replay(learner, lambda _: of.world, self.seeds, FEEDBACKS)
        policy = learner.policy(np.random.default_rng(1), 400).mean(axis=0)
        own, base = judging.values(of.held_out, policy), self._static(of)
        t_only = self._static(self.temperatures)
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

    def _static(self, of: Grid) -> Floats:
        policy = one_hot(np.full(TASKS, best_static(of.train)), of.size)
        return judging.values(of.held_out, policy)

    def _thompson(self, of: Grid, seeds: int, tuning: Tuning) -> Thompson:
        return Thompson(seeds, TASKS, of.size, None, tuning)

    def _tuned_thompson(self, of: Grid) -> Tuning:
        generator, best = np.random.default_rng(5), (-np.inf, Tuning())
        for _ in range(TRIALS):
            tuning = Tuning(
                caution=float(generator.uniform(0.1, 1.0)),
                last_strength=float(2.0 ** generator.uniform(-1, 3)),
                fading=1.0 - float(10.0 ** generator.uniform(-5, -3)),
            )
            best = max(
                best,
                (self._trial(of, self._thompson(of, TUNING_SEEDS, tuning)), tuning),
                key=lambda each: each[0],
            )
        return best[1]

    def _tuned_linucb(self, of: Grid) -> tuple[float, float]:
        generator, best = np.random.default_rng(6), (-np.inf, 0.1, 1.0)
        for _ in range(TRIALS):
            alpha = float(10.0 ** generator.uniform(-2.5, 0.0))
            ridge = float(10.0 ** generator.uniform(-1.0, 1.0))
            learner = LinUcb(TUNING_SEEDS, TASKS, of.size, alpha, ridge)
            best = max(best, (self._trial(of, learner), alpha, ridge))
        return best[1], best[2]

    def _trial(self, of: Grid, learner: Learner) -> float:
        # other seeds than those that are reported
        return float(
            replay(learner, lambda _: of.world, TUNING_SEEDS, 2000, seed=99)[:, -1000:].mean()
        )

    def rules(self) -> dict[str, Any]:
        """Row 3: rule-based programs, each the best of its settings and caps on train."""
        found = {}
        own = self.temperatures
        thompson = self._thompson(own, self.seeds, Tuning())
        replay(thompson, lambda _: own.world, self.seeds, FEEDBACKS)
        policy = thompson.policy(np.random.default_rng(1), 400).mean(axis=0)
        ours = judging.values(own.held_out, policy)
        for name in ("edt", "dynatemp", "mirostat", "min_p", "top_n_sigma"):
            arms = [i for i, arm in enumerate(self.matrix.arms) if arm.split()[0] == name]
            of = grid(self.matrix, name, arms, range(len(CAP_SHARES)))
            by_task = judging.values(of.held_out, one_hot(best_by_task(of.train), of.size))
            found[name] = {
                "setting": self.action(of, best_static(of.train)),
                "trials": of.size,
                "value": judging.mean_value(self._static(of)),
                "ours_minus_it": difference(ours, self._static(of)).as_dict(),
                "by_task_value": judging.mean_value(by_task),
                "ours_minus_it_by_task": difference(ours, by_task).as_dict(),
            }
        return found

    def moved(self, at: int = 3000, window: int = 100) -> dict[str, Any]:
        """Row 6: rewards move to the next task's at t = 3,000."""
        of = self.temperatures
        before, after = of.world, World(np.roll(of.world.table, 1, axis=0))
        learner = self._thompson(of, self.seeds, Tuning())
        curve = replay(learner, lambda step: before if step < at else after, self.seeds, 2 * at)
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

    def forgotten(self) -> dict[str, Any]:
        """Row 7: what all other tasks lose while 2,000 feedbacks come for one of them."""
        of, generator = self.temperatures, np.random.default_rng(3)
        learner = self._thompson(of, self.seeds, Tuning())
        replay(learner, lambda _: of.world, self.seeds, FEEDBACKS)
        before = learner.policy(generator, 400)
        replay(learner, lambda _: of.world, self.seeds, 2000, seed=8, tasks=(0,))
        after = learner.policy(generator, 400)
        gap = ((before - after) * of.world.means).sum(axis=2)[:, 1:].mean(axis=1)
        return {"loss": float(gap.mean()), "worst_seed": float(gap.max())}

    def newborn(self) -> dict[str, Any]:
        """What a new installation earns on prompts that the shipped prior has not seen."""
        of = self.temperatures
        return newborn.rows(of.world, world(of.held_out), self.seeds)

    def off_policy(self, replays: int = 300, count: int = 1000) -> dict[str, Any]:
        """Row 8: half uniform, half best static logs; the target is the best of each task."""
        of, generator = self.temperatures, np.random.default_rng(4)
        logging = np.full(of.size, 0.5 / of.size)
        logging[best_static(of.train)] += 0.5
        target = best_by_task(of.train)
        truth = float(of.world.means[np.arange(TASKS), target].mean())
        errors: dict[str, list[float]] = {"SNIPS": [], "DR": []}
        covered: dict[str, list[bool]] = {"SNIPS": [], "DR": []}
        for _ in range(replays):
            tasks = generator.integers(TASKS, size=count)
            rows = generator.integers(of.world.table.shape[1], size=count)
            actions = generator.choice(of.size, size=count, p=logging)
            rewards = of.world.table[tasks, rows, actions]
            weights = (actions == target[tasks]) / logging[actions]
            model, own = (
                cross_fitted(tasks, actions, rewards, of.world.means.shape),
                np.arange(count),
            )
            robust = doubly_robust(rewards, weights, model[own, actions], model[own, target[tasks]])
            for name, each in (("SNIPS", snips(rewards, weights)), ("DR", robust)):
                errors[name].append(each.value - truth)
                covered[name].append(each.lower <= truth <= each.upper)
        return {
            name: {
                "rmse": float(np.sqrt(np.mean(np.square(errors[name])))),
                "coverage": float(np.mean(covered[name])),
            }
            for name in errors
        }
