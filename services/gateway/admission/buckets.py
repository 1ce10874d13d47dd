"""Token buckets: how much a tenant may ask for now. Pure; time is an argument.

A bucket holds one minute's worth, begins full and fills evenly. A request takes
one from the bucket of requests and its expected tokens from that of tokens, from
both or from neither; the end settles what was really used, and may leave a debt.
What is asked beyond a whole bucket needs a full one, or nobody could ever ask it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from thermesh.clock import Clock
from thermesh.keys import Allowance

MINUTE_US = 60_000_000
MOST_TENANTS = 4096


@dataclass(frozen=True, slots=True)
class Bucket:
    """`level` at the time `at_us`; `rate` is what it holds and what fills it in a minute."""

    rate: int
    level: float
    at_us: int

    def at(self, now_us: int) -> Bucket:
        """Return the bucket as it is now."""
        filled = self.level + max(0, now_us - self.at_us) * self.rate / MINUTE_US
        return Bucket(self.rate, min(self.rate, filled), now_us)

    def wait_us(self, wanted: int) -> int:
        """Return how long until `wanted` can be taken."""
        return max(0, math.ceil((min(wanted, self.rate) - self.level) * MINUTE_US / self.rate))

    def less(self, taken: int) -> Bucket:
        """Return the bucket after `taken`, negative to give back, is taken."""
        return Bucket(self.rate, min(self.rate, self.level - taken), self.at_us)


@dataclass(frozen=True, slots=True)
class Side:
    """One bucket as a client sees it; `limit` 0: there is none."""

    limit: int
    level: float
    wait_us: int = 0

    @property
    def remaining(self) -> int:
        """What may be taken now."""
        return max(0, math.floor(self.level))

    @property
    def reset_seconds(self) -> float:
        """When the bucket is full again."""
        return (self.limit - self.level) * 60 / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Both buckets after a request tried to take; `wait_seconds` 0: it may go on."""

    requests: Side
    tokens: Side

    @property
    def wait_seconds(self) -> float:
        """How long until the same could be taken."""
        return max(self.requests.wait_us, self.tokens.wait_us) / 1_000_000


class Buckets(Protocol):
    """Keeps the buckets of tenants."""

    async def take(self, tenant: str, allowance: Allowance, requests: int, tokens: int) -> Quota:
        """Take from both or neither; with `requests` 0 settle. May raise StoreAway."""
        ...


class LocalBuckets:
    """Buckets of this process alone; those least recently used are forgotten, and so full."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    async def take(self, tenant: str, allowance: Allowance, requests: int, tokens: int) -> Quota:
        """Take from both or neither; with `requests` 0 settle."""
        now_us = round(self._clock.monotonic() * 1_000_000)
        names = ((tenant, "requests"), (tenant, "tokens"))
        rates = (allowance.requests_per_minute, allowance.tokens_per_minute)
        wants = (requests, tokens)
        found = [self._at(name, rate, now_us) for name, rate in zip(names, rates, strict=True)]
        waits = [
            bucket.wait_us(wanted) if bucket and requests else 0
            for bucket, wanted in zip(found, wants, strict=True)
        ]
        if not any(waits):
            found = [b and b.less(wanted) for b, wanted in zip(found, wants, strict=True)]
        for name, bucket in zip(names, found, strict=True):
            self._keep(name, bucket)
        sides = [
            Side(b.rate, b.level, wait) if b else Side(0, 0)
            for b, wait in zip(found, waits, strict=True)
        ]
        return Quota(*sides)

    def _at(self, name: tuple[str, str], rate: int, now_us: int) -> Bucket | None:
        if not rate:
            return None
        kept = self._kept.get(name)
        level, at_us = (kept.level, kept.at_us) if kept else (rate, now_us)
        return Bucket(rate, level, at_us).at(now_us)

    def _keep(self, name: tuple[str, str], bucket: Bucket | None) -> None:
        if bucket is None:
            return
        self._kept[name] = bucket
        self._kept.move_to_end(name)
        if len(self._kept) > 2 * MOST_TENANTS:
            self._kept.popitem(last=False)
