"""The second learned policy: Thompson sampling over a grid of actions.

An action is a temperature, a guard, a share of the token cap and a compute
path. Each task, and abstention, has a Gaussian belief about every action:

    k      = strength of the prior, from 20 decisions down to 2 as feedback comes
    before   Normal(level + shape, noise^2 / k * likeness)
    after    the same given the rewards: their mean and standard deviation (`kinship`)
    P(a)   = (1 - floor) Prob(belief of a is the highest) + floor / actions

`level` is the mean reward of the task, so that no action looks good or bad only
because people are generous. `shape` is what the action lost to the best of its task
on the train prompts of the study (`shapes`). `likeness` lets a reward speak for the
neighbours of its action too, so that a wide grid is learned about as fast as a narrow one.
The probability of being the highest is an integral in one dimension, found by
quadrature, and the action is then drawn from that very vector: the propensity
that is logged is exactly what it was drawn with, whatever the quadrature's error.

Forgetting: old feedback of a task fades by `Statics.fading` with each new one. Where
rewards fall clearly below belief (a cumulative sum of standardised surprise)
nearly all of that task's is dropped at once, and the others doubt theirs: a world
that changed for one task may have changed for them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.controller.capabilities import USUAL
from services.controller.policies.actions import Action
from services.controller.policies.kinship import likeness, posterior
from services.controller.policies.shapes import expected_loss
from services.controller.policies.statics import DEFAULT, Statics
from thermesh.features import TASKS

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Allowed = Sequence[bool] | NDArray[np.bool_]

KIND = "thompson"
CONTEXTS = len(TASKS) + 1
"""One for each task, and one for requests whose task is not known."""

TEMPERATURES = (0.1, 0.25, 0.4, 0.6, 0.8, 1.0, 1.2)
_SHAPE_FLOOR = -0.6
_UNUSUAL_PENALTY = 0.1

# Variance of rewards in [-1, 1] before any was seen, and how many it counts for.
_NOISE_VARIANCE, _NOISE_COUNT = 0.25, 10.0
_LEAST_VARIANCE = 1e-3

# Page's test: surprise beyond half a standard deviation adds up, until `Statics.alarm`.
_SLACK = 0.5
_LARGEST_SURPRISE = 3.0
# What a belief is worth after an alarm, in decisions: of its own task, of others.
_KEPT, _KEPT_BY_OTHERS = 3.0, 40.0

# Exploration that never stops; it begins wide, so that early logs can be weighed.
_FIRST_FLOOR, _LAST_FLOOR, _FLOOR_HALF_LIFE = 0.01, 0.002, 100.0

_NODES = np.linspace(-4.5, 4.5, 61)
_NODE_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()


def grid(
    temperatures: Sequence[float] = TEMPERATURES,
    guards: Sequence[str] = ("top_n_sigma",),
    cap_shares: Sequence[float] = (1.0,),
    paths: Sequence[str] = ("standard",),
) -> tuple[Action, ...]:
    """Return every combination."""
    return tuple(
        Action(*each) for each in itertools.product(temperatures, guards, cap_shares, paths)
    )


@dataclass(frozen=True, eq=False)
class Parameters:
    """Everything that is learned, float64: `counts` and `sums` [contexts, actions], faded;
    `squares` [contexts], faded squared surprises; `seen` [contexts], feedback since the last
    alarm; `surprise` [contexts], the cumulative sums. `shape_weight` scales the prior's shape;
    `statics` is what tuning chose.
    """

    actions: tuple[Action, ...]
    counts: Matrix
    sums: Matrix
    squares: Vector
    seen: Vector
    surprise: Vector
    shape_weight: float = 1.0
    statics: Statics = DEFAULT

    kind = KIND

    def __post_init__(self) -> None:
        table, row = (CONTEXTS, len(self.actions)), (CONTEXTS,)
        shapes = {"counts": table, "sums": table, "squares": row, "seen": row, "surprise": row}
        if not self.actions:
            raise ValueError("the grid needs at least one action")
        for name, shape in shapes.items():
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite and of shape {shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.to_lists() == other.to_lists()

    __hash__ = None  # type: ignore[assignment]  # arrays do not hash

    @staticmethod
    def floor(seen: float) -> float:
        """Return the share of decisions that are drawn evenly after `seen` pieces of feedback."""
        return _LAST_FLOOR + (_FIRST_FLOOR - _LAST_FLOOR) / (1.0 + seen / _FLOOR_HALF_LIFE)

    def leading(self, mean: Vector, spread: Vector) -> Vector:
        """Return the probability that each belief is the highest, [n]; sums to 1."""
        return _highest(mean, spread)

    def to_lists(self) -> dict[str, Any]:
        """Return nested lists; `json` writes and reads them without loss."""
        names = ("counts", "sums", "squares", "seen", "surprise")
        arrays = {name: getattr(self, name).tolist() for name in names}
        actions = [asdict(action) for action in self.actions]
        return {
            "actions": actions,
            **arrays,
            "shape_weight": self.shape_weight,
            "statics": asdict(self.statics),
        }

    @classmethod
    def from_lists(cls, lists: dict[str, Any]) -> Parameters:
        """Undo `to_lists`; raise ValueError, KeyError or TypeError where a member does not fit."""
        actions = tuple(Action(**each) for each in lists["actions"])
        # versions that were stored before tuning existed have none
        statics = Statics.stored(lists.get("statics", {}))
        return cls(**{**lists, "actions": actions, "statics": statics})


def prior(
    actions: tuple[Action, ...] | None = None,
    shape_weight: float = 1.0,
    statics: Statics = DEFAULT,
    of: type[Parameters] = Parameters,
) -> Parameters:
    """Return the beliefs of a new installation, decided as the class `of` does; `shape_weight`
    0 makes all actions alike.
    """
    actions = actions if actions is not None else grid()
    table, row = np.zeros((CONTEXTS, len(actions))), np.zeros(CONTEXTS)
    return of(actions, table, table, row, row, row, shape_weight, statics)


def context_of(task: str) -> int:
    """Return the row of a task; that of abstention for one that is not known."""
    return TASKS.index(task) if task in TASKS else len(TASKS)


def beliefs(parameters: Parameters, context: int) -> tuple[Vector, Vector]:
    """Return mean and standard deviation of the belief about each action, [actions]."""
    counts, sums = parameters.counts[context], parameters.sums[context]
    seen = float(parameters.seen[context])
    statics = parameters.statics
    span = (statics.first_strength - statics.last_strength) * parameters.shape_weight
    strength = statics.last_strength + span / (1.0 + seen / statics.half_life)
    level = float(sums.sum()) / (1.0 + float(counts.sum()))
    mean = level + _shapes(parameters.actions)[context] * parameters.shape_weight
    alike = likeness(parameters.actions, statics.kinship)
    moved, left = posterior(alike / strength, counts, sums - counts * mean)
    return mean + moved, statics.caution * np.sqrt(_variance(parameters, context) * left)


def probabilities(parameters: Parameters, context: int, allowed: Allowed) -> Vector:
    """Return the probability of each action, [actions]; 0 for those not allowed."""
    floor = parameters.floor(float(parameters.seen[context]))
    allowed = np.asarray(allowed)
    mean, spread = (each[allowed] for each in beliefs(parameters, context))
    leading = parameters.leading(mean, spread)
    found = np.zeros(len(allowed))
    found[allowed] = (1.0 - floor) * leading + floor / len(leading)
    return found


def best(parameters: Parameters, context: int, allowed: Allowed) -> int:
    """Return the action whose belief has the highest mean among those allowed."""
    mean, _ = beliefs(parameters, context)
    return int(np.argmax(np.where(allowed, mean, -np.inf)))


def allowed_within(
    actions: tuple[Action, ...],
    lower: float,
    upper: float,
    paths: tuple[str, ...] = USUAL.paths,
) -> tuple[bool, ...]:
    """Return which actions lie in the range of temperature and on one of `paths`, [actions]."""
    lower, upper = lower - 1e-9, upper + 1e-9
    return tuple([lower <= each.temperature <= upper and each.path in paths for each in actions])


def updated(
    parameters: Parameters, context: int, action: Action, reward: float, weight: float = 1.0
) -> Parameters:
    """Return the beliefs after one reward; an action outside of the grid changes nothing."""
    if action not in parameters.actions or weight <= 0.0:
        return parameters
    index = parameters.actions.index(action)
    mean, spread = beliefs(parameters, context)
    variance = _variance(parameters, context)
    miss = reward - float(mean[index])
    arrays = {
        name: np.array(getattr(parameters, name))
        for name in ("counts", "sums", "squares", "seen", "surprise")
    }
    for name in ("counts", "sums", "squares"):
        arrays[name][context] *= parameters.statics.fading
    arrays["counts"][context, index] += weight
    arrays["sums"][context, index] += weight * reward
    arrays["squares"][context] += weight * miss * miss
    arrays["seen"][context] += 1.0
    # what is not known of the belief itself is no surprise
    surprise = -miss / math.sqrt(variance + float(spread[index]) ** 2)
    gathered = arrays["surprise"][context] + min(surprise, _LARGEST_SURPRISE) * weight - _SLACK
    arrays["surprise"][context] = max(0.0, gathered)
    if arrays["surprise"][context] > parameters.statics.alarm:
        _doubt(arrays, context)
    changed: dict[str, Any] = dict(arrays)
    return replace(parameters, **changed)


def _doubt(arrays: dict[str, NDArray[np.float64]], context: int) -> None:
    """Shrink what was believed: of the task that raised the alarm, and less of the others."""
    for row in range(CONTEXTS):
        kept = _KEPT if row == context else _KEPT_BY_OTHERS
        scale = min(1.0, kept / max(float(arrays["counts"][row].sum()), kept))
        for name in ("counts", "sums", "squares"):
            arrays[name][row] *= scale
    arrays["surprise"][context] = 0.0


def _variance(parameters: Parameters, context: int) -> float:
    squares = float(parameters.squares[context]) + _NOISE_COUNT * _NOISE_VARIANCE
    count = float(parameters.counts[context].sum()) + _NOISE_COUNT
    return max(squares / count, _LEAST_VARIANCE)


@lru_cache(maxsize=16)
def _shapes(actions: tuple[Action, ...]) -> Matrix:
    """Return what the prior adds to the level of a task for each action, [contexts, actions]."""
    table = [
        [
            max(expected_loss(task, action.guard, action.temperature), _SHAPE_FLOOR)
            - _UNUSUAL_PENALTY * action.unmeasured
            for action in actions
        ]
        for task in (*TASKS, "")
    ]
    return np.array(table)


def _highest(mean: Vector, spread: Vector) -> Vector:
    """Return the probability that each of independent normals is the highest, [n]; sums to 1."""
    points = mean[:, None] + spread[:, None] * _NODES
    below = _normal_cdf((points - mean[:, None, None]) / spread[:, None, None])
    own = np.arange(len(mean))
    below[own, own] = 1.0  # [other, own, nodes]
    chances = below.prod(axis=0) @ _NODE_WEIGHTS
    return np.asarray(chances / chances.sum())


def _normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normal distribution function to 1.5e-7 (Abramowitz & Stegun 7.1.26).

    In place as far as it goes: the first decision of a version waits for it.
    """
    scaled = np.abs(x) * math.sqrt(0.5)
    t = 1.0 / (1.0 + 0.3275911 * scaled)
    tail = 1.061405429 * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += coefficient
        tail *= t
    scaled *= scaled
    tail *= np.exp(-scaled)
    tail *= 0.5
    return np.where(x < 0.0, tail, 1.0 - tail)
