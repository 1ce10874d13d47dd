"""Whether a gateway is ready, by who of its neighbours serves.

Without inference it never is. Without the others it is: decoding goes on by what is known. But a
gateway that has just started waits for each of them once: processes of a mesh start
together, and what is asked before they have met is decided without features, though the room
that reads them is there. Who does not come within the patience is not waited for any longer.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from thermesh.clock import Clock

ESSENTIAL = "inference"


class State(enum.StrEnum):
    """What is told to who sends requests; NOT_READY: send none now."""

    READY = "ready"
    DEGRADED = "degraded"
    NOT_READY = "not_ready"


class Readiness:
    """Remembers who was met; `patience_seconds` count from its making."""

    def __init__(self, clock: Clock, patience_seconds: float) -> None:
        self._clock = clock
        self._waits_until = clock.monotonic() + patience_seconds
        self._met: set[str] = set()

    def judge(self, peers: Mapping[str, bool]) -> State:
        """Return the state, `peers` being whether each neighbour serves now."""
        self._met.update(name for name, is_serving in peers.items() if is_serving)
        if not peers[ESSENTIAL] or self._is_waiting(len(peers)):
            return State.NOT_READY
        return State.READY if all(peers.values()) else State.DEGRADED

    def _is_waiting(self, expected: int) -> bool:
        return len(self._met) < expected and self._clock.monotonic() < self._waits_until
