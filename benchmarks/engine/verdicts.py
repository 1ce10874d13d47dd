"""The kinds of bars that rows have, as functions from samples to verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.engine.plan import ROUNDS, Figure, Samples, Verdict, best_peer, ours, values
from benchmarks.spread import summary

NOT_MEASURED = "not measured"


def told(found: Sequence[float], unit: str) -> str:
    """Return the median of samples with their quartiles, and how few where they are few."""
    if not found:
        return NOT_MEASURED
    told_of = summary(found)
    digits = 1 if told_of.median < 100 else 0
    if len(found) == 1:
        return f"{told_of.median:.{digits}f} {unit}"
    low, high = f"{told_of.low:.{digits}f}", f"{told_of.high:.{digits}f}"
    few = f", n = {len(found)}" if len(found) < ROUNDS else ""
    return f"{told_of.median:.{digits}f} {unit} ({low} to {high}{few})"


def peer_told(samples: Samples, figure: Figure, key: str = "") -> tuple[str | None, str]:
    """Return the best peer and what is told of it."""
    name = best_peer(samples, figure.name, is_rate=figure.is_rate, key=key)
    if name is None:
        return None, NOT_MEASURED
    return name, f"{told(values(samples, figure.name, name, key), figure.unit)}, {name}"


def ahead_of_peers(
    samples: Samples, figure: Figure, factor: float, *, setting: str = ""
) -> Verdict:
    """Judge a rate of ours by the best peer's."""
    mine = values(samples, figure.name, ours(setting))
    name, beside = peer_told(samples, figure)
    found, is_met = told(mine, figure.unit), None
    if mine and name is not None:
        theirs = values(samples, figure.name, name)
        ratio = statistics.median(mine) / statistics.median(theirs)
        found, is_met = f"{found}, **{ratio:.2f}x**", _judged(ratio >= factor, mine, theirs)
    return Verdict(figure.name, found, beside, f"at least {factor:g}x the best peer", is_met)


def ahead_of_own(
    samples: Samples,
    figure: str,
    baseline: str,
    factor: float,
    *,
    setting: str = "",
    before: str = "",
) -> Verdict:
    """Judge a rate of ours by another of ours, at the same or another setting."""
    mine, base = values(samples, figure, ours(setting)), values(samples, baseline, ours(before))
    found, is_met = told(mine, "tok/s"), None
    if mine and base:
        ratio = statistics.median(mine) / statistics.median(base)
        found, is_met = f"{found}, **{ratio:.2f}x**", _judged(ratio >= factor, mine, base)
    against = f"own {before} {baseline}" if before else f"own {baseline}"
    return Verdict(figure, found, told(base, "tok/s"), f"at least {factor:g}x {against}", is_met)


def at_most(
    samples: Samples,
    figure: Figure,
    most: float,
    *,
    key: str = "",
    beside: str = "",
    label: str = "",
) -> Verdict:
    """Judge the median of ours by a number; the tail is told."""
    mine = values(samples, figure.name, ours(), key)
    found, is_met = told(mine, figure.unit), None
    if mine:
        is_met = _judged(statistics.median(mine) <= most, mine)
        if len(mine) > 10:
            found += f", p95 {summary(mine).p95:.0f}"
    bar = f"at most {most:g} {figure.unit}".rstrip()
    return Verdict(label or figure.name, found, beside, bar, is_met)


def _judged(is_met: bool, *sides: Sequence[float]) -> bool | None:
    """Return the judgement, None where a side has too few samples for one."""
    return is_met if all(len(side) >= ROUNDS for side in sides) else None
