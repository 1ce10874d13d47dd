"""Judging on held-out prompts: values of policies, paired differences, bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

RESAMPLES = 4000


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % bootstrap interval over prompts."""

    mean: float
    lower: float
    upper: float
    prompts: int

    def as_dict(self) -> dict[str, float | int]:
        """Return its JSON form."""
        return {
            "mean": round(self.mean, 5),
            "lower": round(self.lower, 5),
            "upper": round(self.upper, 5),
            "prompts": self.prompts,
        }


def values(rewards: Floats, policy: Floats) -> Floats:
    """Return what `policy` [tasks, actions] earns on each prompt, [tasks, prompts].

    `rewards` are [tasks, prompts, samples, actions]; NaN where a prompt lacks an action
    that the policy takes. Samples are averaged.
    """
    taken = policy[:, None, None, :] > 0.0
    weighed = np.where(taken, rewards * policy[:, None, None, :], 0.0).sum(axis=-1)
    known = ~np.isnan(weighed)
    total = np.where(known, weighed, 0.0).sum(axis=2)
    count = known.sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mean_value(each: Floats) -> float:
    """Return the mean over tasks of the mean over prompts."""
    return float(np.nanmean(each, axis=1).mean())


def difference(left: Floats, right: Floats, seed: int = 0) -> Difference:
    """Return left - right, [tasks, prompts] each, where both are known; tasks weigh the same."""
    generator, gaps = np.random.default_rng(seed), left - right
    rows = [row[~np.isnan(row)] for row in gaps]
    drawn = np.zeros(RESAMPLES)
    for row in rows:
        indices = generator.integers(len(row), size=(RESAMPLES, len(row)))
        drawn += row[indices].mean(axis=1) / len(rows)
    mean = float(np.mean([row.mean() for row in rows]))
    lower, upper = np.percentile(drawn, (2.5, 97.5))
    return Difference(mean, float(lower), float(upper), sum(len(row) for row in rows))


def one_hot(actions: Floats, count: int) -> Floats:
    """Return the policy that takes one action a task, [tasks, count]."""
    return np.eye(count)[actions]


def task_means(rewards: Floats) -> Floats:
    """Return the mean reward of each action on each task, [tasks, actions]."""
    return np.nanmean(rewards, axis=(1, 2))


def best_static(rewards: Floats) -> int:
    """Return the action with the highest mean over tasks."""
    return int(task_means(rewards).mean(axis=0).argmax())


def best_by_task(rewards: Floats) -> Floats:
    """Return the best action of each task, [tasks]."""
    return np.asarray(task_means(rewards).argmax(axis=1))


def best_by_task_of(rewards: Floats, answers: int, rounds: int = 200) -> Floats:
    """Return how often each action is the best of its task where only `answers` of
    `rewards` [tasks, rows, actions], drawn anew in each round, were judged: [tasks, actions].

    As many for every action of every task; raises ValueError where that leaves none.
    """
    tasks, rows, actions = rewards.shape
    each = answers // (tasks * actions)
    if each < 1:
        raise ValueError(f"{answers} answers are fewer than {tasks * actions} settings")
    generator, chosen = np.random.default_rng(0), np.zeros((tasks, actions))
    task, action = np.arange(tasks)[:, None, None], np.arange(actions)
    for _ in range(rounds):
        drawn = generator.integers(rows, size=(tasks, each, actions))
        means = rewards[task, drawn, action].mean(axis=1)
        chosen[np.arange(tasks), means.argmax(axis=1)] += 1.0 / rounds
    return chosen
