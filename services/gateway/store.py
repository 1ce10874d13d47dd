"""Redis as the gateway's store: keys, buckets, kept responses.

Bounded connections, short timeouts, no retries: every caller has something else
to do while Redis is away. redis-py drops a connection whose command was
cancelled, so that a late reply cannot be taken for the next command's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.gateway.keeping import StoreAway
from thermesh.keys import KEYS_HASH, TENANTS_HASH, Allowance, Key, unpack_allowance, unpack_key

TIMEOUT_SECONDS = 0.25
MOST_CONNECTIONS = 32


class RedisStore:
    """What the gateway keeps in the Redis at `url`; connects on first use."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._timeout_seconds = timeout_seconds

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

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        raise StoreAway from error
