# ruff: noqa: SLF001  # replays the constants of the product, whatever they are
"""Learners replayed from the matrix: all seeds at once, one request a step.

A table is [tasks, rows, actions] of rewards: a row is one prompt and sample. Each step
and seed draws a task and a row; the learner sees the reward of the action it chose and
nothing else. What is recorded is the mean reward of that action on that task, so that
curves show decisions and not the luck of rows.

`Thompson` follows `services.controller.policies.bandit` number by number, with a draw from the
beliefs in place of the quadrature over them: the same distribution; `LinUcb` ranks their
bounds. Rewards R reach the beliefs as feedback 2 R - 1, as a client's score would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.controller.policies import bandit, linucb
from services.controller.policies.actions import Action
from services.controller.policies.kinship import likeness, posterior
from services.controller.policies.statics import Statics

Floats = NDArray[Any]
Generator = np.random.Generator


@dataclass(frozen=True)
class World:
    """Rewards `table` [tasks, rows, actions] with no gaps; `means` [tasks, actions]."""

    table: Floats

    @property
    def means(self) -> Floats:
        """Mean reward of each action on each task."""
        return np.asarray(self.table.mean(axis=1))

    @property
    def best_static(self) -> float:
        """Mean reward of the one action that is best for all tasks."""
        return float(self.means.mean(axis=0).max())

    @property
    def best_by_task(self) -> float:
        """Mean reward of the best action of each task."""
        return float(self.means.max(axis=1).mean())


def world(rewards: Floats) -> World:
    """Return the world of rewards [tasks, prompts, samples, actions]; a cell that was not
    decoded takes the mean of its action on its task, rows without any are left out.
    """
    tasks, _, _, actions = rewards.shape
    flat = rewards.reshape(tasks, -1, actions)
    have = [each[~np.isnan(each).all(axis=1)] for each in flat]
    rows = min(len(each) for each in have)
    return World(np.stack([_filled(each[:rows]) for each in have]).astype(np.float64))


def _filled(rows: Floats) -> Floats:
    return np.where(np.isnan(rows), np.nanmean(rows, axis=0), rows)


Tuning = Statics
"""What of the bandit may be tuned; the defaults are the product's."""


@dataclass
class Beliefs:
    """`services.controller.policies.bandit.Parameters` with a leading axis of seeds."""

    counts: Floats
    sums: Floats
    squares: Floats
    seen: Floats
    surprise: Floats

    @classmethod
    def unborn(cls, seeds: int, tasks: int, actions: int) -> Beliefs:
        """Return beliefs without any feedback."""
        table, row = np.zeros((seeds, tasks, actions)), np.zeros((seeds, tasks))
        return cls(table, table.copy(), row, row.copy(), row.copy())


class Thompson:
    """Thompson sampling; `shape` [tasks, actions] is the prior, None where there is none."""

    of: type[bandit.Parameters] = bandit.Parameters

    def __init__(
        self,
        seeds: int,
        tasks: int,
        actions: tuple[Action, ...],
        shape: Floats | None,
        tuning: Tuning,
    ) -> None:
        self.beliefs = Beliefs.unborn(seeds, tasks, len(actions))
        self._shape = np.zeros((tasks, len(actions))) if shape is None else shape
        self._likeness = likeness(actions, tuning.kinship)
        self._has_prior = shape is not None
        self._tuning = tuning
        self._seeds = np.arange(seeds)
        self._chosen_by: tuple[Floats, Floats, Floats] | None = None

    def normals(self, task: Floats) -> tuple[Floats, Floats, Floats]:
        """Return mean and spread of the beliefs about `task` [seeds], and their noise."""
        now, tuning, each = self.beliefs, self._tuning, (self._seeds, task)
        counts, sums = now.counts[each], now.sums[each]
        span = (tuning.first_strength - tuning.last_strength) * self._has_prior
        strength = (tuning.last_strength + span / (1.0 + now.seen[each] / tuning.half_life))[
            :, None
        ]
        total = counts.sum(axis=1)
        mean = (sums.sum(axis=1) / (1.0 + total))[:, None] + self._shape[task]
        covariance = self._likeness / strength[:, :, None]
        moved, left = posterior(covariance, counts, sums - counts * mean)
        squares = now.squares[each] + bandit._NOISE_COUNT * bandit._NOISE_VARIANCE
        variance = np.maximum(squares / (total + bandit._NOISE_COUNT), bandit._LEAST_VARIANCE)
        return mean + moved, tuning.caution * np.sqrt(variance[:, None] * left), variance

    def choose(self, task: Floats, generator: Generator) -> Floats:
        """Return an action for each seed."""
        mean, spread, _ = self._chosen_by = self.normals(task)
        drawn = self._leading(mean, spread, generator)
        floor = self.of.floor(self.beliefs.seen[self._seeds, task])
        uniform = generator.integers(mean.shape[1], size=len(task))
        return np.where(generator.random(len(task)) < floor, uniform, drawn)

    def _leading(self, mean: Floats, spread: Floats, generator: Generator) -> Floats:
        return (mean + spread * generator.standard_normal(mean.shape)).argmax(axis=1)

    def learn(self, task: Floats, action: Floats, reward: Floats) -> None:
        """Take the feedback 2 R - 1 of every seed into its beliefs."""
        now, own = self.beliefs, self._seeds
        # what chose is what is surprised: nothing was learned between
        mean, spread, variance = self._chosen_by or self.normals(task)
        self._chosen_by = None
        miss = 2.0 * reward - 1.0 - mean[own, action]
        for table in (now.counts, now.sums, now.squares):
            table[own, task] *= self._tuning.fading
        now.counts[own, task, action] += 1.0
        now.sums[own, task, action] += 2.0 * reward - 1.0
        now.squares[own, task] += miss * miss
        now.seen[own, task] += 1.0
        surprise = -miss / np.sqrt(variance + spread[own, action] ** 2)
        gathered = now.surprise[own, task] + np.minimum(surprise, bandit._LARGEST_SURPRISE)
        now.surprise[own, task] = np.maximum(0.0, gathered - bandit._SLACK)
        for seed in np.flatnonzero(now.surprise[own, task] > self._tuning.alarm):
            self._doubt(seed, task[seed])

    def _doubt(self, seed: int, task: int) -> None:
        now = self.beliefs
        for row in range(now.counts.shape[1]):
            kept = bandit._KEPT if row == task else bandit._KEPT_BY_OTHERS
            scale = min(1.0, kept / max(float(now.counts[seed, row].sum()), kept))
            for table in (now.counts, now.sums, now.squares):
                table[seed, row] *= scale
        now.surprise[seed, task] = 0.0

    def policy(self, generator: Generator, draws: int = 2000) -> Floats:
        """Return the probability of each action, [seeds, tasks, actions], from draws of what
        leads; the floor of exploration is part of it.
        """
        seeds, tasks, actions = self.beliefs.counts.shape
        found = np.zeros((seeds, tasks, actions))
        for task in range(tasks):
            mean, spread, _ = self.normals(np.full(seeds, task))
            for _ in range(draws):
                best = self._leading(mean, spread, generator)
                found[self._seeds, task, best] += 1.0 / draws
        seen = self.beliefs.seen
        floor = np.broadcast_to(self.of.floor(seen), seen.shape)[..., None]
        return np.asarray((1.0 - floor) * found + floor / actions)

    def leaders(self) -> Floats:
        """Return the policy that explores nothing: the highest mean, [seeds, tasks, actions]."""
        seeds, tasks, actions = self.beliefs.counts.shape
        best = [self.normals(np.full(seeds, task))[0].argmax(axis=1) for task in range(tasks)]
        return np.eye(actions)[np.stack(best, axis=1)]


class LinUcb(Thompson):
    """Upper bounds of the same beliefs: `services.controller.policies.linucb`."""

    of = linucb.Parameters

    def _leading(self, mean: Floats, spread: Floats, generator: Generator) -> Floats:
        # before any feedback bounds without a prior tie
        return (mean + linucb.WIDTH * spread + 1e-9 * generator.random(mean.shape)).argmax(axis=1)


def replay(
    learner: Thompson,
    at: Callable[[int], World],
    seeds: int,
    count: int,
    *,
    seed: int = 0,
    tasks: tuple[int, ...] | None = None,
) -> Floats:
    """Return the mean reward of each decision, [seeds, count]; `at` is the world of a step."""
    generator, own = np.random.default_rng(seed), np.arange(seeds)
    earned = np.zeros((seeds, count))
    for step in range(count):
        now = at(step)
        pool = np.arange(len(now.table)) if tasks is None else np.array(tasks)
        task = generator.choice(pool, seeds)
        row = generator.integers(now.table.shape[1], size=seeds)
        action = learner.choose(task, generator)
        learner.learn(task, action, now.table[task, row, action])
        earned[own, step] = now.means[task, action]
    return earned
