"""Which matrix gets which format: a knapsack with one choice for each matrix.

Pure arithmetic on sizes and costs; it knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from services.inference.models.group_codes import GroupFormat

_CELLS = 1 << 16
"""Steps of the budget; a matrix wastes at most one of them."""


Form = TypeVar("Form")


@dataclass(frozen=True)
class Choice(Generic[Form]):
    """One way to store a matrix: its bytes, and what it should cost in nats a token."""

    form: Form
    byte_count: int
    cost: float


Mix = dict[str, GroupFormat]


def allocated(
    choices: Mapping[str, Sequence[Choice[Form]]], budget_bytes: int
) -> dict[str, Form] | None:
    """Return the formats of the least total cost within the budget; None if none fit.

    Dynamic programming over `_CELLS` steps of the budget: after each matrix,
    `best[b]` is the least cost of all matrices so far in b steps.
    """
    cell = max(1, -(-budget_bytes // _CELLS))
    cells = budget_bytes // cell
    best = np.zeros(cells + 1)
    taken: list[np.ndarray] = []
    for options in choices.values():
        costs = np.stack(
            [_after(best, -(-option.byte_count // cell), option) for option in options]
        )
        taken.append(costs.argmin(axis=0).astype(np.int16))
        best = costs.min(axis=0)
    if not np.isfinite(best[cells]):
        return None
    return _walked_back(choices, taken, cells, cell)


def _after(best: np.ndarray, size: int, option: Choice[Form]) -> np.ndarray:
    moved = np.full_like(best, np.inf)
    if size < len(best):
        moved[size:] = best[: len(best) - size] + option.cost
    return moved


def _walked_back(
    choices: Mapping[str, Sequence[Choice[Form]]], taken: list[np.ndarray], left: int, cell: int
) -> dict[str, Form]:
    mix: dict[str, Form] = {}
    for name, chosen in zip(reversed(list(choices)), reversed(taken), strict=True):
        option = choices[name][int(chosen[left])]
        mix[name] = option.form
        left -= -(-option.byte_count // cell)
    return {name: mix[name] for name in choices}


def uniform(
    choices: Mapping[str, Sequence[Choice[Form]]], budget_bytes: int
) -> dict[str, Form] | None:
    """Return the one format for all matrices of the least total cost within the budget."""
    totals: dict[Form, list[Choice[Form]]] = {}
    for options in choices.values():
        for option in options:
            totals.setdefault(option.form, []).append(option)
    fitting = {
        form: sum(option.cost for option in options)
        for form, options in totals.items()
        if len(options) == len(choices)
        and sum(option.byte_count for option in options) <= budget_bytes
    }
    if not fitting:
        return None
    return dict.fromkeys(choices, min(fitting, key=lambda form: fitting[form]))


def byte_count(choices: Mapping[str, Sequence[Choice[Form]]], mix: Mapping[str, Form]) -> int:
    """Return the bytes of all matrices in `mix`."""
    return sum(_chosen(options, mix[name]).byte_count for name, options in choices.items())


def cost(choices: Mapping[str, Sequence[Choice[Form]]], mix: Mapping[str, Form]) -> float:
    """Return the estimated cost of `mix` in nats a token."""
    return sum(_chosen(options, mix[name]).cost for name, options in choices.items())


def _chosen(options: Sequence[Choice[Form]], form: Form) -> Choice[Form]:
    return next(option for option in options if option.form == form)
