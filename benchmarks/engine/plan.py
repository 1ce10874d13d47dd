"""What is measured and what is claimed of it: figures, bars, rows.

A row is declared once, in a module of `rows/`; the runner takes the samples of
its figures, interleaved, and its `verdicts` judge them. Nothing here computes
a figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS = "thermesh"
ROUNDS = 5

Sample = float | list[float] | dict[str, float]
"""What one call gave: a value, several of the same kind, or several by name."""
Samples = Mapping[str, Mapping[str, Sequence[Sample]]]
"""Samples by figure and contender."""


@dataclass(frozen=True)
class Figure:
    """One measurement, taken of each contender once a round.

    `call` is a method of a `Contender`; `has_trial` is False where the first
    sample is as good as the others and dear, `rounds` 1 where all samples would be the
    same; `is_fresh` asks a process started for
    this sample alone, `has_neighbour` runs another process on a core meanwhile.
    `settings` are variants of ours: environment variables by the name that the
    variant bears in results, "" being the defaults.
    """

    name: str
    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "tok/s"
    rounds: int = ROUNDS
    has_peers: bool = True
    has_trial: bool = True
    is_fresh: bool = False
    has_neighbour: bool = False
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"": {}})

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit == "tok/s"


@dataclass(frozen=True)
class Verdict:
    """What one bar says of the samples. `found` is in words, `is_met` None where
    a part was not measured.
    """

    figure: str
    found: str
    beside: str
    bar: str
    is_met: bool | None


@dataclass(frozen=True)
class Row:
    """One row of the table: what is measured for it, and how it is judged."""

    number: int
    title: str
    figures: tuple[Figure, ...]
    verdicts: Callable[[Samples], list[Verdict]]


def values(samples: Samples, figure: str, contender: str, key: str = "") -> list[float]:
    """Return the single values of a figure, `key` of those that have names."""
    found: list[float] = []
    for sample in samples.get(figure, {}).get(contender, ()):
        if isinstance(sample, dict):
            found.append(sample[key])
        elif isinstance(sample, list):
            found += sample
        else:
            found.append(sample)
    return found


def peers_of(samples: Samples, figure: str) -> list[str]:
    """Return the contenders of a figure that are not ours."""
    return [name for name in samples.get(figure, {}) if not is_ours(name)]


def is_ours(contender: str) -> bool:
    """Whether a contender is Thermesh, at whatever settings."""
    return contender.partition(": ")[0] == OURS


def ours(setting: str = "") -> str:
    """Return the name of Thermesh at a setting."""
    return f"{OURS}: {setting}" if setting else OURS


def best_peer(samples: Samples, figure: str, *, is_rate: bool, key: str = "") -> str | None:
    """Return the peer with the best median, None where none was measured."""
    best = max if is_rate else min
    medians = {
        name: statistics.median(found)
        for name in peers_of(samples, figure)
        if (found := values(samples, figure, name, key))
    }
    return best(medians, key=lambda name: medians[name], default=None)
