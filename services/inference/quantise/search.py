"""The search for a mix: each step is kept in the workplace and shown as it goes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from services.inference.models import load
from services.inference.models.group_codes import GroupFormat, Rows
from services.inference.models.weights import Weights
from services.inference.quantise import allocation, costs, curvature, temperature, texts
from services.inference.quantise.allocation import Choice, Mix
from services.inference.quantise.curvature import Curvature
from services.inference.quantise.divergence import Divergence, Yardstick
from services.inference.quantise.rounding import rounded
from services.inference.quantise.source import Source
from services.inference.quantise.temperature import Calibration
from services.inference.quantise.texts import Texts
from services.inference.quantise.workplace import Workplace

Progress = Callable[[str, int, int], None]
"""Told (what is being done, done, of how many)."""

LAYOUT = 2
"""Of what is kept in a workplace: another one's is no use."""

_CHECKED_FORMAT = GroupFormat(3, 32, True)


@dataclass(frozen=True)
class Options:
    """How much is measured. Texts are pieces of `length` tokens."""

    fitted: int = 16
    held_out: int = 8
    length: int = 256
    checked: int = 12
    """Matrices whose estimate is compared with the true divergence."""
    seed: int = 1


def texts_of(source: Source, options: Options, workplace: Workplace, progress: Progress) -> Texts:
    """Return the texts that the model is measured on."""
    kept = workplace.arrays("texts")
    if kept is None:
        found = texts.gathered(
            load(source.path, "original"),
            fitted=options.fitted,
            held_out=options.held_out,
            length=options.length,
            seed=options.seed,
            progress=lambda done, of: progress("texts", done, of),
        )
        kept = {"fitted": found.fitted.numpy(), "held_out": found.held_out.numpy()}
        workplace.keep_arrays("texts", kept)
    return Texts(*(torch.from_numpy(kept[name]) for name in ("fitted", "held_out")))


class Search:
    """Everything known about one model's matrices."""

    def __init__(
        self, source: Source, options: Options, workplace: Workplace, progress: Progress
    ) -> None:
        self.source = source
        self._options = options
        self._workplace = workplace
        self._progress = progress
        self.texts = texts_of(source, options, workplace, progress)
        self.curvature = self._curvature()
        self._changed: Weights | None = None
        self._yardstick: Yardstick | None = None

    def _curvature(self) -> dict[str, Curvature]:
        kept = self._workplace.arrays("curvature")
        if kept is None:
            found = curvature.measured(
                self.source.config,
                self.source.weights(),
                self.texts.fitted,
                self._options.seed,
                lambda done, of: self._progress("curvature", done, of),
            )
            kept = {f"{name}/rows": one.rows for name, one in found.items()}
            kept |= {f"{name}/columns": one.columns for name, one in found.items()}
            self._workplace.keep_arrays("curvature", kept)
        names = self.source.matrices
        return {n: Curvature(kept[f"{n}/rows"], kept[f"{n}/columns"]) for n in names}

    @functools.cached_property
    def choices(self) -> dict[str, list[Choice[GroupFormat]]]:
        """How each matrix could be stored, with what it should cost."""
        kept: dict[str, Any] = self._workplace.values("costs") or {}
        for count, name in enumerate(self.source.matrices, 1):
            if name not in kept:
                found = costs.choices(self.source.matrix(name), self.curvature[name])
                kept[name] = [dataclasses.asdict(choice) for choice in found]
                self._workplace.keep_values("costs", kept)
            self._progress("costs", count, len(self.source.matrices))
        return {name: [_choice(entry) for entry in kept[name]] for name in self.source.matrices}

    def rows_of(self, name: str, form: GroupFormat) -> Rows:
        """Return a matrix rounded."""
        return rounded(self.source.matrix(name), self.curvature[name].importance, form)

    def judged(self, mix: Mix) -> tuple[Divergence, Calibration]:
        """Return how far the network in `mix` is from the original on held-out texts,
        and the factor on temperature that makes up for what can be made up for.
        """
        changed, yardstick = self._networks()
        for count, (name, form) in enumerate(mix.items(), 1):
            self._change(changed, name, form)
            self._progress("rounding", count, len(mix))
        return yardstick.measure(changed), temperature.calibrated(yardstick.pairs(changed))

    def checks(self) -> list[tuple[str, float, float]]:
        """Return (matrix, estimate, true divergence) with that matrix alone rounded."""
        kept = self._workplace.values("checks")
        if kept is None:
            kept = list(self._checked())
            self._workplace.keep_values("checks", kept)
        return [(name, estimate, true) for name, estimate, true in kept]

    def _checked(self) -> Iterator[tuple[str, float, float]]:
        names = list(self.source.matrices)
        places = np.linspace(0, len(names) - 1, min(self._options.checked, len(names)))
        weights = self.source.weights()
        views = weights.destinations(self.source.config)
        yardstick = self._networks()[1]
        for count, place in enumerate(places, 1):
            name = names[round(place)]
            estimate = self._change(weights, name, _CHECKED_FORMAT)
            true = yardstick.measure(weights, count=2).mean
            views[name].copy_(self.source.matrix(name))
            self._progress("check", count, len(places))
            yield name, estimate, true

    def _change(self, weights: Weights, name: str, form: GroupFormat) -> float:
        """Round one matrix of `weights`; return what that should cost."""
        numbers = torch.from_numpy(self.rows_of(name, form).weights(form))
        weights.destinations(self.source.config)[name].copy_(numbers)
        return self.curvature[name].cost(numbers - self.source.matrix(name))

    def _networks(self) -> tuple[Weights, Yardstick]:
        """Return weights that may be changed, and what to compare them with."""
        if self._changed is None or self._yardstick is None:
            self._changed = self.source.weights()
            self._yardstick = Yardstick(self.source.config, self._changed, self.texts.held_out)
        return self._changed, self._yardstick


def _choice(entry: dict[str, Any]) -> Choice[GroupFormat]:
    return Choice(GroupFormat(**entry["form"]), entry["byte_count"], entry["cost"])


def rank_correlation(checks: list[tuple[str, float, float]]) -> float:
    """Return Spearman's rho of the estimates with the true divergences."""
    orders = [np.argsort([check[part] for check in checks]) for part in (1, 2)]
    estimated, true = (order.argsort().astype(np.float64) for order in orders)
    return float(np.corrcoef(estimated, true)[0, 1])


def point(search: Search, workplace: Workplace, bits: float) -> dict[str, Any]:
    """Return the mix and the uniform format of `bits` a weight, both measured, as JSON.

    The chosen one is the mix where it is really better.
    """
    kept: dict[str, Any] | None = workplace.values(f"point-{bits:g}")
    if kept is not None:
        return kept
    weights = sum(rows * columns for rows, columns in search.source.matrices.values())
    budget = int(weights * bits / 8)
    found = {
        "mix": allocation.allocated(search.choices, budget),
        "uniform": allocation.uniform(search.choices, budget),
    }
    entry = {name: _described(search, mix) for name, mix in found.items() if mix is not None}
    if entry:
        entry["chosen"] = min(entry, key=lambda name: entry[name]["divergence"]["mean"])
    entry |= {"bits": bits, "budget_bytes": budget}
    workplace.keep_values(f"point-{bits:g}", entry)
    return entry


def _described(search: Search, mix: Mix) -> Any:
    divergence, calibration = search.judged(mix)
    return {
        "bytes": allocation.byte_count(search.choices, mix),
        "estimate": allocation.cost(search.choices, mix),
        "divergence": divergence.as_json(),
        "temperature": calibration.as_json(),
        "formats": {name: dataclasses.astuple(form) for name, form in mix.items()},
    }
