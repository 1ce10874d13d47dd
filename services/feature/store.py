"""Redis as a Store: bounded connections, short timeouts, no retries.

A retry belongs to the next request: this one would rather do without. redis-py
drops a connection whose command was cancelled, so that the late reply cannot be
taken for the next command's (redis/redis-py#2624); readers check values anyway.
"""

from __future__ import annotations

import asyncio

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.feature.cache import StoreAway

TIMEOUT_SECONDS = 0.03
MOST_CONNECTIONS = 16


class RedisStore:
    """The Store in the Redis at `url`."""

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

    async def get(self, key: str) -> bytes | None:
        """Return the value of `key`; raise StoreAway where Redis does not answer in time."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                value = await self._redis.get(key)
        except (RedisError, OSError) as error:
            raise StoreAway from error
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Keep `value`; raise StoreAway where Redis does not answer in time."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._redis.set(key, value, ex=ttl_seconds)
        except (RedisError, OSError) as error:
            raise StoreAway from error

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()
