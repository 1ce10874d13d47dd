"""The door to the learned policies: every kind draws, and tells how likely a draw was.

    squashed_gaussian   a density over temperature (`gaussian`)
    thompson            a probability for each action of a grid (`bandit`)
    linucb              the same beliefs, decided by upper bounds (`linucb`)

A kind is a class of parameters in KINDS. What is specific to one is asked for
here and nowhere else on the path of a decision.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from services.controller.capabilities import USUAL
from services.controller.policies import bandit, gaussian, linucb
from services.controller.policies.actions import Action
from services.controller.policies.gaussian import NEUTRAL, Vector
from services.controller.policies.statics import DEFAULT, Statics

__all__ = [
    "DEFAULT_KIND",
    "KINDS",
    "NEUTRAL",
    "Draw",
    "Drawn",
    "Parameters",
    "PolicySnapshot",
    "Vector",
    "believed",
    "evidence",
    "parameters_of",
    "prior",
]

Parameters = gaussian.Parameters | bandit.Parameters

KINDS: Mapping[str, type[gaussian.Parameters | bandit.Parameters]] = {
    gaussian.KIND: gaussian.Parameters,
    bandit.KIND: bandit.Parameters,
    linucb.KIND: linucb.Parameters,
}
"""The parameters of each kind by its name, as in the stored version."""


DEFAULT_KIND = bandit.KIND


def prior(
    kind: str = DEFAULT_KIND,
    actions: tuple[Action, ...] | None = None,
    statics: Statics = DEFAULT,
) -> Parameters:
    """Return the parameters of a new installation; `actions` and `statics` are a bandit's."""
    of = KINDS[kind]
    if issubclass(of, bandit.Parameters):
        return bandit.prior(actions, statics=statics, of=of)
    return gaussian.prior()


def parameters_of(kind: str, lists: dict[str, Any]) -> Parameters:
    """Read parameters; raise ValueError, KeyError or TypeError where they do not fit."""
    if kind not in KINDS:
        raise ValueError(f"policy kind {kind!r} is not known; use one of {', '.join(KINDS)}")
    return KINDS[kind].from_lists(lists)


def evidence(parameters: Parameters) -> float:
    """Return how many pieces of feedback the beliefs of a bandit rest on; 0 for a density,
    which does not tell.
    """
    return float(parameters.counts.sum()) if isinstance(parameters, bandit.Parameters) else 0.0


def believed(parameters: Parameters, context: int, temperature: float) -> float:
    """Return the mean reward that a bandit expects of its actions nearest to a temperature;
    0 for a density, which does not tell.
    """
    if not isinstance(parameters, bandit.Parameters):
        return 0.0
    mean, _ = bandit.beliefs(parameters, context)
    gaps = np.array([abs(action.temperature - temperature) for action in parameters.actions])
    return float(mean[gaps == gaps.min()].mean())


@dataclass(frozen=True, slots=True)
class Draw:
    """What a policy says. Drawn from a density: `log_density` of the temperature, and
    `propensity` 0. Drawn from a grid: `propensity` of the action, and `log_density` 0.
    """

    action: Action
    log_density: float = 0.0
    propensity: float = 0.0

    @property
    def temperature(self) -> float:
        """The temperature drawn."""
        return self.action.temperature


class Drawn(Protocol):
    """What is needed of a logged draw to say how likely it was and would be."""

    @property
    def features(self) -> tuple[float, ...]: ...  # noqa: D102  # members of LoggedDecision
    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def lower(self) -> float: ...  # noqa: D102
    @property
    def upper(self) -> float: ...  # noqa: D102
    @property
    def paths(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def log_density(self) -> float: ...  # noqa: D102
    @property
    def propensity(self) -> float: ...  # noqa: D102
    @property
    def action(self) -> Action: ...  # noqa: D102


_Asked = tuple[int, tuple[bool, ...]]
"""A context of the bandit, and which of its actions may be drawn."""

FORESEEN_LIMIT = 64
"""Tables that a new version works out before anybody asks; users' own ranges make more."""


@dataclass(frozen=True, slots=True)
class _Table:
    """How a grid is drawn from: the probability of each action, their running sums and sum.

    Plain floats: on a handful of numbers a call of numpy costs more than what it does.
    """

    chances: tuple[float, ...]
    edges: tuple[float, ...]
    total: float

    @classmethod
    def of(cls, chances: Vector) -> _Table:
        """Return the table of `chances`, [actions]."""
        edges = np.cumsum(chances).tolist()
        return cls(tuple(chances.tolist()), tuple(edges), float(chances.sum()))

    def index(self, share: float) -> int:
        """Return the action at `share` of the sum, in [0, 1)."""
        return min(bisect_right(self.edges, share * self.total), len(self.edges) - 1)


class PolicySnapshot:
    """One version of the policy, as the decision path holds it; never changes.

    What a grid's probabilities are for a task and range is computed once, and for those that
    were asked of the version before (`like`) at once: no request pays for a new version.
    """

    __slots__ = ("_tables", "feedback_count", "parameters", "version")

    def __init__(
        self,
        version: int,
        parameters: Parameters,
        feedback_count: int,
        like: PolicySnapshot | None = None,
    ) -> None:
        self.version = version
        self.parameters = parameters
        self.feedback_count = feedback_count
        self._tables: dict[_Asked, _Table] = {}
        if like is not None and isinstance(parameters, bandit.Parameters):
            self._foresee(parameters, like)

    def draw(
        self,
        features: Vector,
        task: str,
        lower: float,
        upper: float,
        generator: np.random.Generator,
        *,
        paths: tuple[str, ...] = USUAL.paths,
    ) -> Draw:
        """Draw for one request; `lower < upper`, `paths` are those the engine has."""
        if isinstance(self.parameters, bandit.Parameters):
            table = self._table(self.parameters, task, lower, upper, paths)
            if not table.total:
                return Draw(_middle(lower, upper), propensity=1.0)
            index = table.index(float(generator.random()))
            return Draw(self.parameters.actions[index], propensity=table.chances[index])
        density = gaussian.distribution(
            self.parameters, self.feedback_count, features, lower, upper
        )
        z = density.mean + density.sigma * float(generator.standard_normal())
        action = Action(density.temperature_at(z))
        return Draw(action, log_density=density.log_density_at(z))

    def importance(self, drawn: Drawn) -> float:
        """Return how much more likely this version is to draw what was drawn.

        0 where it could not: another grid, or a density against a grid.
        """
        if isinstance(self.parameters, bandit.Parameters):
            if drawn.propensity <= 0.0:
                return 0.0
            return self._chance(self.parameters, drawn) / drawn.propensity
        if drawn.propensity > 0.0:
            return 0.0
        density = gaussian.distribution(
            self.parameters,
            self.feedback_count,
            np.array(drawn.features),
            drawn.lower,
            drawn.upper,
        )
        return math.exp(density.log_density(drawn.action.temperature) - drawn.log_density)

    def _chance(self, parameters: bandit.Parameters, drawn: Drawn) -> float:
        table = self._table(parameters, drawn.task, drawn.lower, drawn.upper, drawn.paths)
        if not table.total:
            return float(drawn.action == _middle(drawn.lower, drawn.upper))
        if drawn.action not in parameters.actions:
            return 0.0
        return table.chances[parameters.actions.index(drawn.action)]

    def _table(
        self,
        parameters: bandit.Parameters,
        task: str,
        lower: float,
        upper: float,
        paths: tuple[str, ...],
    ) -> _Table:
        allowed = bandit.allowed_within(parameters.actions, lower, upper, paths)
        key = (bandit.context_of(task), allowed)
        if key not in self._tables:
            self._tables[key] = _table_of(parameters, *key)
        return self._tables[key]

    def _foresee(self, parameters: bandit.Parameters, like: PolicySnapshot) -> None:
        if isinstance(like.parameters, bandit.Parameters):
            is_same = like.parameters.actions == parameters.actions
            asked = list(like._tables)[:FORESEEN_LIMIT] if is_same else []
            self._tables = {key: _table_of(parameters, *key) for key in asked}


def _table_of(parameters: bandit.Parameters, context: int, allowed: tuple[bool, ...]) -> _Table:
    chances = np.zeros(len(allowed))
    if any(allowed):
        chances = bandit.probabilities(parameters, context, allowed)
    return _Table.of(chances)


def _middle(lower: float, upper: float) -> Action:
    """Return the only action there is in a range between two levels of a grid."""
    return Action(0.5 * (lower + upper))
