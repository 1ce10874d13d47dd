"""When to come again: every refusal is told a moment of its own, as places become free.

Told one moment, all who were refused would come back together and be refused again. So each
books the next one: the generic cell rate algorithm (ITU-T I.371) turned around. Who does not
come back leaves a place to somebody else. Pure; time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict

SHORTEST_SECONDS, LONGEST_SECONDS = 0.05, 30.0
MOST_BOOKS = 4096


class Bookings:
    """One book per queue of refused ones, the least recently used forgotten."""

    def __init__(self) -> None:
        self._booked_until: OrderedDict[str, float] = OrderedDict()

    def book(self, queue: str, gap_seconds: float, now: float) -> float:
        """Return the seconds until the next moment of `queue`, `gap_seconds` after the last one."""
        free_at = max(now, self._booked_until.get(queue, now)) + gap_seconds
        wait = min(max(free_at - now, SHORTEST_SECONDS), LONGEST_SECONDS)
        self._booked_until[queue] = now + wait
        self._booked_until.move_to_end(queue)
        if len(self._booked_until) > MOST_BOOKS:
            self._booked_until.popitem(last=False)
        return wait
