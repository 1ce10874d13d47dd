"""The numbered events of one turn that a reader may ask for again.

Bounded on both sides of the newest event that was taken: as many again are
kept behind it, for a reader that lost what was on its way, and as many may be
made ahead of it. Knows nothing of tasks, clocks or connections.
"""

from __future__ import annotations

from collections import deque

from services.gateway.events import Event
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError

Happening = Event | MeshError


class Window:
    """Events numbered from 1; `most_events` bounds either side."""

    def __init__(self, most_events: int) -> None:
        self._most_events = most_events
        self._kept: deque[Happening] = deque()
        self._newest = 0
        self._taken = 0

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept, or of the next where none is."""
        return self._newest - len(self._kept) + 1

    @property
    def is_full(self) -> bool:
        """Whether as many events wait for a reader as may."""
        return self._newest - self._taken >= self._most_events

    def add(self, event: Happening) -> None:
        """Add the next event; the last one may come although the window is full."""
        self._kept.append(event)
        self._newest += 1

    def take(self, number: int) -> Happening | None:
        """Return event `number`, which `check` allowed; None where it is still to come."""
        if number > self._newest:
            return None
        event = self._kept[number - self.oldest]
        self._taken = max(self._taken, number)
        while self.oldest <= self._taken - self._most_events:
            self._kept.popleft()
        return event

    def check(self, last_number: int) -> None:
        """Raise where a reader cannot go on after event `last_number`.

        FailedPrecondition: what follows it is not kept any more;
        InvalidArgument: it has not happened.
        """
        field = "resume.last_sequence_number"
        if last_number > self._newest:
            raise InvalidArgument(
                f"{field} is {last_number}, of {self._newest} so far", field=field
            )
        if last_number + 1 < self.oldest:
            raise FailedPrecondition(
                f"messages are kept from {self.oldest} on, so that a turn can be resumed from"
                f" {self.oldest - 1} to {self._newest}, not from {last_number}",
                field=field,
                reason="OUT_OF_WINDOW",
            )
