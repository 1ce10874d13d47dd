"""Redis as the gateway's store: keys, buckets, kept responses.

Bounded connections, short timeouts, no retries: every caller has something else
to do while Redis is away. redis-py drops a connection whose command was
cancelled, so that a late reply cannot be taken for the next command's.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import Iterator

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.gateway.admission.buckets import Quota, Side
from services.gateway.keeping import StoreAway
from thermesh.clock import Clock
from thermesh.keys import KEYS_HASH, TENANTS_HASH, Allowance, Key, unpack_allowance, unpack_key

TIMEOUT_SECONDS = 0.25
TAKE_SECONDS = 0.05
"""A request waits for its buckets, and can do without; for its key it cannot."""

_SCRIPTS = pathlib.Path(__file__).with_name("lua")
MOST_CONNECTIONS = 32


class RedisStore:
    """What the gateway keeps in the Redis at `url`; connects on first use.

    `clock` is whose time fills the buckets; None: that of Redis, which is the
    same for all gateways.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        take_seconds: float = TAKE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._take, self._keep, self._forget = (
            self._redis.register_script((_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8"))
            for name in ("take", "keep", "forget")
        )
        self._timeout_seconds = timeout_seconds
        self._take_seconds = take_seconds
        self._clock = clock

    async def key(self, key_digest: str) -> tuple[Key, Allowance | None] | None:
        """Return a key and its tenant's allowance, None where unknown; raise StoreAway."""
        with _away():
            async with asyncio.timeout(self._timeout_seconds):
                text = await self._redis.hget(KEYS_HASH, key_digest)
                key = unpack_key(text) if text else None
                if key is None:
                    return None
                text = await self._redis.hget(TENANTS_HASH, key.tenant)
        return key, unpack_allowance(text) if text else None

    async def take(self, tenant: str, allowance: Allowance, requests: int, tokens: int) -> Quota:
        """Take from both buckets of a tenant or neither, as `buckets.Buckets` says."""
        rates = (allowance.requests_per_minute, allowance.tokens_per_minute)
        now = "" if self._clock is None else round(self._clock.monotonic() * 1_000_000)
        names = [f"thermesh:limit:{{{tenant}}}:{side}" for side in ("requests", "tokens")]
        with _away():
            async with asyncio.timeout(self._take_seconds):
                found = await self._take(keys=names, args=[*rates, requests, tokens, now])
        _, *levels_and_waits = map(int, found)
        levels, waits = levels_and_waits[:2], levels_and_waits[2:]
        sides = map(Side, rates, (level / 1_000_000 for level in levels), waits)
        return Quota(*sides)

    async def get_text(self, shelf: str, name: str) -> str | None:
        """Return a kept response as text, None where there is none; raise StoreAway."""
        with _away():
            async with asyncio.timeout(self._timeout_seconds):
                text = await self._redis.get(_shelved(shelf, name)[0])
        return text.decode() if isinstance(text, bytes) else None

    async def put_text(
        self, shelf: str, name: str, text: str, *, ttl_seconds: int, shelf_bytes: int
    ) -> None:
        """Keep a response; the oldest of its shelf go where it is full; raise StoreAway."""
        with _away():
            async with asyncio.timeout(self._timeout_seconds):
                limits = (ttl_seconds, shelf_bytes)
                await self._keep(keys=_shelved(shelf, name), args=[text, *limits])

    async def drop_text(self, shelf: str, name: str) -> bool:
        """Forget a response; tell whether there was one; raise StoreAway."""
        with _away():
            async with asyncio.timeout(self._timeout_seconds):
                return bool(await self._forget(keys=_shelved(shelf, name)))

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()


def _shelved(shelf: str, name: str) -> list[str]:
    tag = f"thermesh:responses:{{{shelf}}}"
    return [f"{tag}:text:{name}", f"{tag}:shelf", f"{tag}:bytes"]


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        raise StoreAway from error
