"""Who is let in: a bound on requests at once, in all and per tenant.

A request over the bound is refused at once with the time after which a place
is likely free, rather than queued: the engine has the only queue.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator

from thermesh.clock import Clock
from thermesh.errors import ResourceExhausted, Unavailable

MIN_RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
_NEWEST_WEIGHT = 0.1


class Admission:
    """Counts the requests inside; not thread-safe, it lives on one event loop."""

    def __init__(
        self, max_requests: int, max_per_tenant: int, clock: Clock, noun: str = "requests"
    ) -> None:
        self._noun = noun
        self._max_requests = max_requests
        self._max_per_tenant = max_per_tenant
        self._clock = clock
        self._by_tenant: Counter[str] = Counter()
        self._mean_seconds = MIN_RETRY_SECONDS
        self._open = True

    @property
    def inside(self) -> int:
        """How many requests are inside now."""
        return self._by_tenant.total()

    @property
    def is_open(self) -> bool:
        """Whether new requests are welcome."""
        return self._open

    @contextlib.contextmanager
    def entered(self, tenant: str, most: int = 0, share: float = 1.0) -> Iterator[None]:
        """Hold a place for the length of the block; `most` is the tenant's own bound, 0: none.

        `share` is how much of all places may be taken when this one is: who can wait leaves
        the last ones to who cannot.

        Raises ResourceExhausted where there is none, Unavailable while the
        gateway shuts down.
        """
        self._check(tenant, most, share)
        began = self._clock.monotonic()
        self._by_tenant[tenant] += 1
        try:
            yield
        finally:
            self._leave(tenant, self._clock.monotonic() - began)

    def close(self) -> None:
        """Let nobody in any more; who is inside may finish."""
        self._open = False

    def retry_after(self) -> float:
        """Return the seconds after which a place is likely free: one leaves every mean/limit."""
        expected = self._mean_seconds / self._max_requests
        return min(max(expected, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)

    def _check(self, tenant: str, most: int, share: float) -> None:
        if not self._open:
            raise Unavailable("the gateway is shutting down", retry_after=MIN_RETRY_SECONDS)
        if self.inside >= math.ceil(share * self._max_requests):
            raise ResourceExhausted(
                f"the gateway serves at most {self._max_requests} {self._noun} at once",
                retry_after=self.retry_after(),
            )
        most = min(most or self._max_per_tenant, self._max_per_tenant)
        if self._by_tenant[tenant] >= most:
            raise ResourceExhausted(
                f"a tenant may have at most {most} {self._noun} at once",
                field="tenant",
                reason="TENANT_LIMIT",
                retry_after=self.retry_after(),
            )

    def _leave(self, tenant: str, seconds: float) -> None:
        self._mean_seconds += _NEWEST_WEIGHT * (seconds - self._mean_seconds)
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
