"""A circuit breaker that counts, and a store behind one that never fails its caller.

Redis is a convenience of this room. When it is away, the breaker spares every
request the wait for it: after FAILURES_TO_OPEN failures in a row nothing is
asked for a while, then one request tries again on behalf of all.
"""

from __future__ import annotations

import logging

from services.feature.cache import Store, StoreAway
from services.feature.tally import Tally
from thermesh.clock import Clock

log = logging.getLogger(__name__)

FAILURES_TO_OPEN = 3
COOLDOWN_SECONDS = 1.0


class Breaker:
    """Closed: all may try. Open: none, but one after each cooldown."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures_in_a_row = 0
        self._next_try = 0.0

    @property
    def is_open(self) -> bool:
        """Whether tries are being spared."""
        return self._failures_in_a_row >= FAILURES_TO_OPEN

    def allow(self) -> bool:
        """Tell whether to try now; when open this claims the one try of the cooldown."""
        if not self.is_open:
            return True
        if self._clock.monotonic() < self._next_try:
            return False
        self._next_try = self._clock.monotonic() + COOLDOWN_SECONDS
        return True

    def succeeded(self) -> bool:
        """Record a success; return whether it closed the breaker."""
        was_open, self._failures_in_a_row = self.is_open, 0
        return was_open

    def failed(self) -> bool:
        """Record a failure; return whether it opened the breaker."""
        self._failures_in_a_row += 1
        self._next_try = self._clock.monotonic() + COOLDOWN_SECONDS
        return self._failures_in_a_row == FAILURES_TO_OPEN


class GuardedStore:
    """A store that answers None and forgets while the one behind it is away."""

    def __init__(self, store: Store, breaker: Breaker, tally: Tally) -> None:
        self._store = store
        self._breaker = breaker
        self._tally = tally

    async def get(self, key: str) -> bytes | None:
        """Return the value of `key`; None where there is none or the store is away."""
        if not self._breaker.allow():
            return None
        try:
            value = await self._store.get(key)
        except StoreAway:
            self._failed()
            return None
        self._succeeded()
        return value

    async def put(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Keep `value` unless the store is away."""
        if not self._breaker.allow():
            return
        try:
            await self._store.put(key, value, ttl_seconds)
        except StoreAway:
            self._failed()
            return
        self._succeeded()

    def _failed(self) -> None:
        self._tally.failed("redis", "away")
        if self._breaker.failed():
            log.warning("the shared store is away; going on with this process's own memory")

    def _succeeded(self) -> None:
        if self._breaker.succeeded():
            log.warning("the shared store is back")
