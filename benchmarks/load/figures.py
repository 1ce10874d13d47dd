"""Figures of the rows beside their bars. Pure functions; samples are in milliseconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.spread import quantile

Json = dict[str, Any]
Rounds = Sequence[Json]
Figure = tuple[str, str, str, bool]
"""What it is, the bar, what was found, whether that meets it."""


def milliseconds(seconds: Iterable[float]) -> list[float]:
    """Return times as milliseconds, short enough to be kept."""
    return [round(each * 1e3, 3) for each in seconds]


def thinned(samples: Sequence[float], most: int = 500) -> list[float]:
    """Return at most so many quantiles that stand for all samples, both ends among them."""
    if len(samples) <= most:
        return sorted(samples)
    ordered, last = sorted(samples), len(samples) - 1
    return [ordered[round(place * last / (most - 1))] for place in range(most)]


def added(
    rounds: Sequence[dict[str, list[float]]], door: str, title: str, p50: float, p99: float
) -> list[Figure]:
    """Judge a door against the engine asked in the same rounds.

    The difference of quantiles over all rounds; beside it the least and the greatest
    difference of a single round.
    """
    found = []
    for name, share, bar in (("p50", 0.5, p50), ("p99", 0.99, p99)):
        own = pooled(rounds, door, share) - pooled(rounds, "engine", share)
        each = [quantile(one[door], share) - quantile(one["engine"], share) for one in rounds]
        told = f"{own:+.2f} ms (rounds {min(each):+.2f} to {max(each):+.2f})"
        found.append((f"{title}, {name}", f"<= {bar:g} ms", told, own <= bar))
    return found


def pooled(rounds: Sequence[dict[str, list[float]]], name: str, share: float) -> float:
    """Return a quantile of one contender over all rounds."""
    return quantile([sample for one in rounds for sample in one[name]], share)


def as_roof(figure: Figure) -> Figure:
    """Return a figure that is only to be compared with: it has no bar."""
    title, _, found, _ = figure
    return title, "none, to compare", found, True


def spread(values: Sequence[float], form: str) -> str:
    """Return the median of rounds with the least and the greatest."""
    median = statistics.median(values)
    return f"{median:{form}} (rounds {min(values):{form}} to {max(values):{form}})"
