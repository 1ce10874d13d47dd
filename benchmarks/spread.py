"""Figures from samples: medians with their spread, and what one thing adds to another.

Pure functions. Medians and quantiles, because times on a shared machine have a
long tail that a mean would report instead of the usual case.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """What a table says of one set of samples, in the samples' unit."""

    count: int
    median: float
    p95: float
    low: float
    high: float
    """`low` and `high` are the quartiles: half of all samples lie between them."""


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the value below which `share` in [0, 1] of the samples lie.

    Linear interpolation between the two nearest (Hyndman and Fan's type 7,
    which numpy and R default to). Raises ValueError where there are none.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def summary(samples: Sequence[float]) -> Summary:
    """Summarise `samples`; raises ValueError where there are none."""
    return Summary(
        count=len(samples),
        median=quantile(samples, 0.5),
        p95=quantile(samples, 0.95),
        low=quantile(samples, 0.25),
        high=quantile(samples, 0.75),
    )


def added(baseline: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return what `other` took more than `baseline` in each round.

    The two were measured one after the other in the same round, so that what
    slowed the machine in that round slowed both. Raises ValueError where the
    numbers of rounds differ.
    """
    return [mine - theirs for theirs, mine in zip(baseline, other, strict=True)]


def median_interval(
    samples: Sequence[float],
    share: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap's interval of the median (Efron 1979)."""
    draw = random.Random(seed)
    medians = [statistics.median(draw.choices(samples, k=len(samples))) for _ in range(resamples)]
    return quantile(medians, (1 - share) / 2), quantile(medians, (1 + share) / 2)


def interleaved(names: Sequence[str], rounds: int, seed: int = 0) -> Iterable[str]:
    """Yield each name once a round, in a new order every round.

    So that no contender always runs in another's wake, and a slow minute of
    the machine is shared by all.
    """
    draw = random.Random(seed)
    for _ in range(rounds):
        order = list(names)
        draw.shuffle(order)
        yield from order


def decode_rate(arrivals: Sequence[float], token_count: int) -> float | None:
    """Return tokens per second after the first, or None for fewer than two tokens.

    `arrivals` are the times in seconds at which text arrived, `token_count` how
    many tokens they brought in all.
    """
    if token_count < 2 or len(arrivals) < 2:
        return None
    return (token_count - 1) / (arrivals[-1] - arrivals[0])
