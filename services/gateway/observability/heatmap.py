"""The temperatures of the last hour by task: counts in minutes and bins, and what is odd in them.

One answer counts once, with the mean temperature of its tokens, in the minute
in which it ended. A minute of a task is odd where its median lies further from
the median of the task's other minutes than `SPREADS` robust spreads, and
further than `LEAST_DISTANCE` (Hampel, "The influence curve and its role in
robust estimation", JASA 69, 1974: the median absolute deviation, scaled so
that it estimates the standard deviation of normal values). The rule needs
enough answers on both sides; below that it says nothing.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

MINUTES = 60
BIN_WIDTH = 0.1
BINS = 20
"""From 0 to 2.0, the range of the wire; 2.0 itself lies in the last."""

MAX_TASKS = 16
"""Tasks are eight; the bound is against a controller that invents them."""
OTHER = "other"
UNKNOWN = "unknown"

SPREADS = 4.0
LEAST_DISTANCE = 0.15
FEWEST_IN_MINUTE = 3
FEWEST_ELSEWHERE = 20
_NORMAL_SPREAD = 1.4826

RULE = (
    f"A minute is flagged where its median temperature lies more than {SPREADS:g} robust"
    " spreads (1.4826 times the median absolute deviation) and more than"
    f" {LEAST_DISTANCE:g} away from the median of the task's other minutes; it needs"
    f" {FEWEST_IN_MINUTE} answers in the minute and {FEWEST_ELSEWHERE} outside of it."
)

Bins = Counter[int]


@dataclass(frozen=True, slots=True)
class Cell:
    """One task in one minute; `counts` of answers by bin, `minute` since the Unix epoch."""

    minute: int
    task: str
    counts: tuple[int, ...]
    median: float
    is_odd: bool


class HeatMap:
    """Counts answers; not thread-safe, it lives on one event loop.

    Holds at most MINUTES x MAX_TASKS x BINS whole numbers.
    """

    def __init__(self) -> None:
        self._minutes: OrderedDict[int, dict[str, Bins]] = OrderedDict()

    def add(self, task: str, temperature: float, unix_ms: int) -> None:
        """Count an answer of `task` that was decoded at `temperature` on the mean."""
        minute = unix_ms // 60_000
        tasks = self._minutes.setdefault(minute, {})
        name = task or UNKNOWN
        if name not in tasks and len(tasks) >= MAX_TASKS - 1:
            name = OTHER
        tasks.setdefault(name, Counter())[bin_of(temperature)] += 1
        self._forget(minute)

    def cells(self, unix_ms: int) -> list[Cell]:
        """Return the last hour before `unix_ms`, by minute and task, with what is odd in it."""
        self._forget(unix_ms // 60_000)
        totals = self._totals()
        return [
            Cell(minute, task, _listed(counts), median(counts), is_odd(counts, totals[task]))
            for minute, task, counts in self._each()
        ]

    def _each(self) -> Iterator[tuple[int, str, Bins]]:
        for minute in sorted(self._minutes):
            for task, counts in sorted(self._minutes[minute].items()):
                yield minute, task, counts

    def _totals(self) -> dict[str, Bins]:
        totals: dict[str, Bins] = {}
        for _, task, counts in self._each():
            totals.setdefault(task, Counter()).update(counts)
        return totals

    def _forget(self, now: int) -> None:
        # A clock that was set back leaves minutes of the future: these go first
        # once there are too many, so that the bound holds whatever the clock does.
        for minute in [one for one in self._minutes if one <= now - MINUTES]:
            del self._minutes[minute]
        while len(self._minutes) > MINUTES:
            del self._minutes[max(self._minutes)]


def bin_of(temperature: float) -> int:
    """Return the bin of a temperature; what lies outside the range counts at its end."""
    # Rounded, because 0.3 / 0.1 is a little less than 3.
    return min(max(int(round(temperature / BIN_WIDTH, 6)), 0), BINS - 1)


def middle(index: int) -> float:
    """Return the temperature in the middle of a bin."""
    return (index + 0.5) * BIN_WIDTH


def median(counts: Bins) -> float:
    """Return the median temperature of counted answers, of which there is at least one."""
    return _median({middle(index): count for index, count in counts.items()})


def is_odd(counts: Bins, total: Bins) -> bool:
    """Tell whether a minute differs from the rest of `total`, which includes it."""
    elsewhere = total - counts
    if counts.total() < FEWEST_IN_MINUTE or elsewhere.total() < FEWEST_ELSEWHERE:
        return False
    usual = median(elsewhere)
    deviations: dict[float, int] = {}
    for index, count in elsewhere.items():
        distance = abs(middle(index) - usual)
        deviations[distance] = deviations.get(distance, 0) + count
    spread = _NORMAL_SPREAD * _median(deviations)
    return abs(median(counts) - usual) > max(SPREADS * spread, LEAST_DISTANCE)


def _median(weights: dict[float, int]) -> float:
    """Return the lower median of values that occur `weights` times."""
    half, passed = sum(weights.values()) / 2, 0
    for value in sorted(weights):
        passed += weights[value]
        if passed >= half:
            return value
    raise ValueError("there is no median of nothing")


def _listed(counts: Bins) -> tuple[int, ...]:
    return tuple(counts[index] for index in range(BINS))
