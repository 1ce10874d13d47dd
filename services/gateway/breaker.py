"""When to leave a failing neighbour alone for a moment.

After `threshold` failures in a row the neighbour is skipped for a pause that
doubles with each failed try up to a bound; then one call is let through, and
its success closes the breaker. Every outcome must be reported, or it would
never open (the bug of BerriAI/litellm#34299).
"""

from __future__ import annotations

from thermesh.clock import Clock


class Breaker:
    """Decides whether to call; not thread-safe."""

    def __init__(
        self,
        clock: Clock,
        threshold: int = 3,
        pause_seconds: float = 0.5,
        max_pause_seconds: float = 4.0,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._first_pause = pause_seconds
        self._max_pause = max_pause_seconds
        self._failures = 0
        self._pause = pause_seconds
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the neighbour is taken to be away."""
        return self._failures >= self._threshold

    def allows(self) -> bool:
        """Tell whether to call now; where the breaker is open, takes the one try of a pause."""
        if not self.is_open:
            return True
        if self._clock.monotonic() < self._closed_until:
            return False
        self._closed_until = self._clock.monotonic() + self._pause
        return True

    def succeed(self) -> bool:
        """Report a call that was answered; tell whether the neighbour was away before."""
        was_open = self.is_open
        self._failures = 0
        self._pause = self._first_pause
        return was_open

    def fail(self) -> bool:
        """Report a call that was not; tell whether the neighbour is away from now on."""
        was_open = self.is_open
        self._failures += 1
        if was_open:
            self._pause = min(self._pause * 2, self._max_pause)
        self._closed_until = self._clock.monotonic() + self._pause
        return self.is_open and not was_open
