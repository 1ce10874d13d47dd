"""How often a client tries again, and how long it waits before."""

from __future__ import annotations

import random
from dataclasses import dataclass

from thermesh.errors import MeshError, ResourceExhausted, Unavailable


@dataclass(frozen=True)
class Patience:
    """At most `retries` more attempts, `first_seconds` apart, then twice that, up to a bound.

    Each wait is cut by up to a half at random, so that clients that failed
    together do not come back together ("full jitter" would let some come at once).
    """

    retries: int = 2
    first_seconds: float = 0.1
    most_seconds: float = 2.0

    def allows(self, error: MeshError, failures: int) -> bool:
        """Whether it helps to try again after the `failures`-th failure in a row."""
        passes = isinstance(error, Unavailable) or (
            isinstance(error, ResourceExhausted) and error.retry_after is not None
        )
        return passes and failures <= self.retries

    def backoff(self, failures: int) -> float:
        """Return the seconds to wait after the `failures`-th failure in a row."""
        # 2 to the 30th is past every bound: a long outage must not overflow.
        longest = self.first_seconds * 2.0 ** min(failures - 1, 30)
        return min(longest, self.most_seconds) * random.uniform(0.5, 1.0)

    def wait(self, error: MeshError, failures: int) -> float:
        """Return the backoff, or what the server asked for where that is longer."""
        return max(self.backoff(failures), error.retry_after or 0.0)
