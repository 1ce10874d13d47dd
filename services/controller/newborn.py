"""The policy of a new installation, from its settings."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TypeVar

from services.controller.config import PolicyConfig
from services.controller.policies import bandit
from services.controller.policies.envelope import GUARDS
from services.controller.policies.policy import Parameters, prior
from services.controller.policies.statics import Statics, read
from services.controller.sampling import MAXIMUM_TEMPERATURE, MINIMUM_TEMPERATURE
from thermesh.settings import BadSetting

T = TypeVar("T")
ACTIONS_LIMIT = 64
PATHS = ("light", "standard", "heavy")


def newborn(config: PolicyConfig) -> Parameters:
    """Return the prior of the kind that is set, over the grid that is set.

    Raises BadSetting naming the variable that cannot be read.
    """
    grid = bandit.grid(
        _listed(config.grid_temperatures, _temperature, "THERMESH_GRID_TEMPERATURES"),
        _listed(config.grid_guards, _one_of(tuple(GUARDS)), "THERMESH_GRID_GUARDS"),
        _listed(config.grid_cap_shares, _share, "THERMESH_GRID_CAP_SHARES"),
        _listed(config.grid_paths, _one_of(PATHS), "THERMESH_GRID_PATHS"),
    )
    if len(grid) > ACTIONS_LIMIT:
        raise BadSetting(
            f"the THERMESH_GRID_* variables make {len(grid)} actions; at most"
            f" {ACTIONS_LIMIT} are allowed"
        )
    return prior(config.policy_kind, grid, _statics(config.statics))


def _statics(path: str) -> Statics:
    if not path:
        return Statics()
    try:
        return read(pathlib.Path(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSetting(
            f"THERMESH_POLICY_STATICS is {path!r}; it cannot be read as a result of"
            f" `thermesh bench policy tune`: {error}"
        ) from None


def _listed(text: str, read: Callable[[str], T], variable: str) -> tuple[T, ...]:
    try:
        found = tuple(read(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise BadSetting(f"{variable} is {text!r}; {error}") from None
    if len(set(found)) != len(found):
        raise BadSetting(f"{variable} is {text!r}; it names a value twice")
    return found


def _temperature(part: str) -> float:
    value = float(part)
    if not MINIMUM_TEMPERATURE <= value <= MAXIMUM_TEMPERATURE:
        raise ValueError(f"each must be from {MINIMUM_TEMPERATURE} to {MAXIMUM_TEMPERATURE}")
    return value


def _share(part: str) -> float:
    value = float(part)
    if not 0.0 < value <= 1.0:
        raise ValueError("each must be above 0 and at most 1")
    return value


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(part: str) -> str:
        if part not in names:
            raise ValueError(f"each must be one of {', '.join(names)}")
        return part

    return read
