"""What guessed tokens add to the time of a decode step, learned from the steps.

A step of few rows waits for memory, so a row more costs little; how little
depends on machine, company, context and number of sequences. Times are kept as
multiples of recent steps of as many sequences without guesses, so that what
slows all steps alike cancels out.
"""

from __future__ import annotations

import bisect
import statistics
from collections import deque

_PLAIN_STEPS = 8
_DRAFTED_STEPS = 5
_STALE_AFTER = 32
"""Steps after which one without guesses is due, to compare with."""

_UNKNOWN_ROW = 0.1
"""What a row adds to a step, as a share of it, before any was measured."""


class StepCosts:
    """Learns from decode steps; times are in seconds."""

    def __init__(self) -> None:
        self._plain: dict[int, deque[float]] = {}
        self._age: dict[int, int] = {}
        self._drafted: dict[int, dict[int, deque[float]]] = {}
        self._curves: dict[int, list[tuple[int, float]]] = {}

    def observe(self, sequences: int, guesses: int, seconds: float) -> None:
        """Learn from a step in which `sequences` decode, with `guesses` more rows in all."""
        if not guesses:
            self._plain.setdefault(sequences, deque(maxlen=_PLAIN_STEPS)).append(seconds)
            self._age[sequences] = 0
            return
        self._age[sequences] = self._age.get(sequences, 0) + 1
        base = statistics.median(self._plain.get(sequences) or [0.0])
        if base > 0:
            self._learn(_size(sequences), guesses, max(1.0, seconds / base))

    def wants_plain(self, sequences: int) -> bool:
        """Tell whether too many steps had guesses to know what one without takes."""
        return sequences not in self._plain or self._age[sequences] >= _STALE_AFTER

    def knows(self, sequences: int) -> bool:
        """Tell whether steps of about so many sequences with guesses were measured."""
        return _size(sequences) in self._curves

    def relative(self, sequences: int, guesses: int) -> float:
        """Return how many times as long as without guesses a step takes, at least 1."""
        curve = self._curves.get(_size(sequences))
        if curve is not None:
            return _at(curve, guesses)
        # Rows cost about the same whosoever they are: those of one sequence tell.
        single = self._curves.get(_size(1), [(0, 1.0), (1, 1.0 + _UNKNOWN_ROW)])
        return _at(single, sequences - 1 + guesses) / _at(single, sequences - 1)

    def _learn(self, size: int, guesses: int, ratio: float) -> None:
        measured = self._drafted.setdefault(size, {})
        measured.setdefault(guesses, deque(maxlen=_DRAFTED_STEPS)).append(ratio)
        curve, highest = [(0, 1.0)], 1.0
        for count in sorted(measured):
            highest = max(highest, statistics.median(measured[count]))
            curve.append((count, highest))
        self._curves[size] = curve


def _at(curve: list[tuple[int, float]], count: int) -> float:
    """Interpolate between measured counts; beyond the last go on as on average."""
    place = bisect.bisect_left(curve, (count, 0.0))
    if place == len(curve):
        last, value = curve[-1]
        return 1 + (value - 1) * count / last
    (low, below), (high, above) = curve[max(0, place - 1)], curve[place]
    if high == low:
        return above
    return below + (above - below) * (count - low) / (high - low)


def _size(sequences: int) -> int:
    """Return the power of two below which the count lies, as its exponent."""
    return max(1, sequences).bit_length()
