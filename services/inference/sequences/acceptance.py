"""How likely the next guess of a draft is right: learned, by temperature and match.

A sequence's own recent guesses count most. Where it has made few, those of all
sequences at about its temperature do: the higher the temperature, the more
often the draw is another token than the likely one. Long matches foretell
better than short ones, so each length of match has an estimate of its own.
"""

from __future__ import annotations

import bisect
from collections import Counter

_MATCHES = (2, 3, 4, 6, 9)
"""Where classes of match lengths begin, after the first: 1 (guessed by the light path),
2, 3, 4-5, 6-8, 9 and more."""

_TEMPERATURE_STEP = 0.25
_SEQUENCE_DECAY = 0.9
_ENGINE_DECAY = 0.995
_PRIOR_WEIGHT = 3.0
"""Guesses of its own after which a sequence counts as much as all others together."""


class Tally:
    """A decaying share of right guesses."""

    def __init__(self, right: float = 0.0, tried: float = 0.0) -> None:
        self.right = right
        self.tried = tried

    def note(self, is_right: bool, decay: float) -> None:
        """Take note of one guess; the weight of those before shrinks by `decay`."""
        self.right = self.right * decay + is_right
        self.tried = self.tried * decay + 1


class Acceptance:
    """The guesses of one sequence."""

    def __init__(self) -> None:
        self._tallies = [Tally() for _ in range(len(_MATCHES) + 1)]

    def tally(self, match: int) -> Tally:
        """Return the tally of matches about as long as `match`."""
        return self._tallies[bisect.bisect(_MATCHES, match)]


class Acceptances:
    """The guesses of all sequences; `right` and `wrong` count them by temperature,
    rounded to quarters, for metrics.
    """

    def __init__(self) -> None:
        self.right: Counter[float] = Counter()
        self.wrong: Counter[float] = Counter()
        self._all: dict[float, list[Tally]] = {}

    def note(self, own: Acceptance, match: int, temperature: float, is_right: bool) -> None:
        """Take note of one guess that was drawn at `temperature`."""
        step = temperature_step(temperature)
        (self.right if is_right else self.wrong)[step] += 1
        own.tally(match).note(is_right, _SEQUENCE_DECAY)
        self._tally(match, step).note(is_right, _ENGINE_DECAY)

    def chance(self, own: Acceptance, match: int, temperature: float) -> float:
        """Return the probability, below 1, that the next guess is right."""
        mine, everyone = own.tally(match), self._tally(match, temperature_step(temperature))
        prior = everyone.right / everyone.tried
        return (mine.right + _PRIOR_WEIGHT * prior) / (mine.tried + _PRIOR_WEIGHT)

    def _tally(self, match: int, step: float) -> Tally:
        # Even chances before anything is known: one right and one wrong guess.
        tallies = self._all.setdefault(step, [Tally(1.0, 2.0) for _ in range(len(_MATCHES) + 1)])
        return tallies[bisect.bisect(_MATCHES, match)]


def temperature_step(temperature: float) -> float:
    """Return the temperature rounded to a quarter; anything above 0 is not greedy."""
    if temperature <= 0:
        return 0.0
    return max(_TEMPERATURE_STEP, round(temperature / _TEMPERATURE_STEP) * _TEMPERATURE_STEP)
