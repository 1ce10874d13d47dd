"""Sets of actions cut out of the matrix, and what is fixed or learned on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.policy import judging
from benchmarks.policy.arms import DEAR, STATIC
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.judging import best_static, one_hot
from benchmarks.policy.learners import World, world
from benchmarks.policy.matrix import CAP_SHARES, Matrix, parts
from services.controller.policies.actions import Action

Floats = NDArray[Any]

TASKS = len(FAMILIES)


@dataclass(frozen=True)
class Grid:
    """A set of actions: indices of arms crossed with indices of caps, and its rewards."""

    name: str
    arms: tuple[int, ...]
    caps: tuple[int, ...]
    rewards: Floats

    @cached_property
    def actions(self) -> tuple[Action, ...]:
        """The actions as the product knows them; only of arms of STATIC."""
        return tuple(
            Action(STATIC[arm].temperature, STATIC[arm].guard, CAP_SHARES[cap])
            for arm in self.arms
            for cap in self.caps
        )

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

    @property
    def static(self) -> Floats:
        """What the best fixed action of the train part earns on held-out prompts."""
        policy = one_hot(np.full(TASKS, best_static(self.train)), self.size)
        return judging.values(self.held_out, policy)

    def action(self, matrix: Matrix, index: int) -> str:
        """Return the name of an action."""
        arm, cap = divmod(index, len(self.caps))
        share = CAP_SHARES[self.caps[cap]]
        name = matrix.arms[self.arms[arm]]
        return name if share == 1.0 else f"{name}, cap {share:g}"


def grid(matrix: Matrix, name: str, arms: Iterable[int], caps: Iterable[int]) -> Grid:
    """Return the grid of `arms` x `caps`; an arm's caps are neighbours."""
    arms, caps = tuple(arms), tuple(caps)
    rewards = matrix.reward[..., list(arms), :][..., list(caps)]
    return Grid(name, arms, caps, rewards.reshape(*rewards.shape[:3], -1))


@dataclass(frozen=True)
class Grids:
    """The three grids of the study: temperatures, with guards, and with token caps."""

    temperatures: Grid
    guarded: Grid
    full: Grid

    @classmethod
    def of(cls, matrix: Matrix) -> Grids:
        """Cut them out of a matrix."""
        plain = [i for i, arm in enumerate(STATIC) if arm.guard == "top_n_sigma"]
        # of what is not decoded for every prompt no policy can be judged on all of them
        every = [i for i, arm in enumerate(STATIC) if arm.name not in DEAR]
        return cls(
            grid(matrix, "T", plain, (0,)),
            grid(matrix, "T x guard", every, (0,)),
            grid(matrix, "T x guard x cap", every, range(len(CAP_SHARES))),
        )

    def __iter__(self) -> Iterator[Grid]:
        """Yield them, the smallest first."""
        yield from (self.temperatures, self.guarded, self.full)
