"""Places in the engine: which class and which tenant may have the next one.

The engine says how many requests it runs at once and how many more it holds, and it orders
those by class: a higher class takes a place back from a lower one, which then goes on later. So
nobody has to be turned away for the sake of a lower class. Three rules:

Rule 1: a request competes with its own class and those above it, as if there were no others.
Rule 2: who can wait fills the engine's waiting room but for its last part; who cannot
waits for a fraction of an answer at most, and is told at once where it would be longer.
Rule 3: while several tenants of one class want places each may hold a fair share (`contest`) of
those that higher classes leave, and one that floods gets what the others do not want.

A refusal says when a place will be free for who is refused (`bookings`). The engine stands
behind all of this with a bound of its own. Not thread-safe, it lives on one event loop.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from services.gateway.admission.bookings import Bookings
from services.gateway.admission.contest import Contest
from services.gateway.asking import PLACES, Priority
from thermesh.clock import Clock
from thermesh.errors import ResourceExhausted

LINE = {Priority.INTERACTIVE: 0.25, Priority.VOICE: 0.125}
"""How many may wait behind a running set of their own class, as a part of it; the others, any."""

RANKS = {priority: rank for rank, priority in enumerate(Priority)}
NEWEST_WEIGHT = 0.1


class Places:
    """Counts the places of one engine, of which this gateway has one part in `replicas`."""

    def __init__(self, clock: Clock, replicas: int = 1) -> None:
        self._clock = clock
        self._replicas = replicas
        self._running = self._waiting = 0
        self._contests = [Contest() for _ in RANKS]
        self._bookings = Bookings()

    @property
    def inside(self) -> int:
        """How many requests have a place, running or waiting."""
        return self._total_from(0)

    def fit(self, running: int, waiting: int) -> None:
        """Take note of how many requests the engine runs and holds; 0 of both: it does not say."""
        self._running = math.ceil(running / self._replicas)
        self._waiting = math.ceil(waiting / self._replicas)

    @contextlib.contextmanager
    def taken(self, tenant: str, priority: Priority) -> Iterator[None]:
        """Hold a place for the length of the block; raise ResourceExhausted where there is none."""
        rank, began = RANKS[priority], self._clock.monotonic()
        contest = self._contests[rank]
        contest.places = max(1, self._running - self._total_from(rank + 1))
        contest.want(tenant, began)
        if self._running:
            self._check_room(priority, began)
            self._check_share(tenant, priority, began)
        contest.enter(tenant, began)
        try:
            yield
        finally:
            now = self._clock.monotonic()
            contest.leave(tenant, now)
            contest.mean_seconds += NEWEST_WEIGHT * (now - began - contest.mean_seconds)

    def _total_from(self, rank: int) -> int:
        return sum(contest.total for contest in self._contests[rank:])

    def _check_room(self, priority: Priority, now: float) -> None:
        rank = RANKS[priority]
        competing = self._total_from(rank)
        if self.inside >= self._room(priority) or competing >= self._line(priority):
            gap = self._contests[rank].mean_seconds / max(1, competing)
            raise ResourceExhausted(
                f"the engine has no place for {priority.value} requests now",
                reason="NO_PLACE",
                retry_after=self._bookings.book(priority.value, gap, now),
            )

    def _check_share(self, tenant: str, priority: Priority, now: float) -> None:
        contest = self._contests[RANKS[priority]]
        if not contest.admits(tenant, now):
            bound = contest.bound(tenant, now)
            gap = contest.mean_seconds / max(1, bound)
            raise ResourceExhausted(
                f"other tenants want places too; this one may have {bound:.0f} now",
                field="tenant",
                reason="FAIR_SHARE",
                retry_after=self._bookings.book(f"{priority.value}:{tenant}", gap, now),
            )

    def _room(self, priority: Priority) -> int:
        return math.ceil(PLACES.get(priority, 1.0) * (self._running + self._waiting))

    def _line(self, priority: Priority) -> float:
        if priority not in LINE:
            return math.inf
        return math.ceil((1 + LINE[priority]) * self._running)
