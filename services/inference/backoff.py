"""How long to wait before the next attempt to reach a peer."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `first` to `longest` seconds; each wait is drawn from its
    upper half, so that replicas do not return all at once.
    """

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """Begin anew: the peer answered."""
        self._next = self._first

    def wait_seconds(self) -> float:
        """Return the next wait."""
        longest = self._next
        self._next = min(self._longest, 2 * self._next)
        return random.uniform(longest / 2, longest)
