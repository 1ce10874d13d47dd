"""What prompt tokens add to a step, learned from steps that had some.

A part that is there however few the tokens are, as the context is read for them
all, and a part that each of them bears: `seconds = each * (shared + tokens)`,
`shared` being the first part in tokens. Which of the two it is that takes the
time depends on processor, kernels and context: behind 7,400 tokens and beside 16 streams
four tokens took 16.6 ms and 16 of them 22.7 on a processor with AMX, and on one
without 10.6 and (10 tokens) 24. Steps of about as many tokens cannot tell the parts apart;
now and then one is a probe, of half as many.
"""

from __future__ import annotations

import statistics
from collections import deque

_STEPS = 5
_MOST_LEFT = 0.97
"""Of what the more tokens of two steps took, that the fewer are said to take: were it all,
`shared` would be without bounds."""

_FEWEST_PROBES = 3
"""Steps of another number before one is believed: a neighbour may have had the core in one."""

_ANYWAY_PART = 4
_ANYWAY_MOST = 6
"""Tokens are taken whatever they take, up to so many, that make what is shared longer by at
most one part in so many: with fewer a step would hold others up as long."""


class PromptCosts:
    """Learns from steps; times are in seconds, those of a step without prompts left out."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque(maxlen=_STEPS)
        self._shares: deque[float] = deque(maxlen=_STEPS)

    @property
    def is_known(self) -> bool:
        """Whether any step was seen."""
        return bool(self._steps)

    def observe(self, seconds: float, tokens: int, *, is_probe: bool) -> None:
        """Learn what `tokens` took; `is_probe`: half or twice as many as the steps before had."""
        if not is_probe:
            self._steps.append((seconds, tokens))
        elif self._steps:
            usual = statistics.median(seconds for seconds, _ in self._steps)
            count = statistics.median(tokens for _, tokens in self._steps)
            (few, less), (many, more) = sorted([(tokens, seconds), (count, usual)])
            if few < many and more > 0:
                left = min(max(few / many, less / more), _MOST_LEFT)
                self._shares.append((left * many - few) / (1 - left))

    def seconds(self, tokens: int) -> float:
        """Return what so many tokens take."""
        return self._each() * (self._shared() + tokens)

    def affordable(self, seconds: float, most: int) -> int:
        """Return how many of at most `most` tokens to take where they may take so long."""
        if self.seconds(most) <= seconds:
            return most
        shared = self._shared()
        anyway = min(shared / _ANYWAY_PART, _ANYWAY_MOST)
        return min(most, int(max(seconds / self._each() - shared, anyway)))

    def _shared(self) -> float:
        is_known = len(self._shares) >= _FEWEST_PROBES
        return statistics.median(self._shares) if is_known else 0.0

    def _each(self) -> float:
        shared = self._shared()
        return statistics.median(seconds / (shared + tokens) for seconds, tokens in self._steps)
