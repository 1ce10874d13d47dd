"""Encodings by content: this process's memory in front of a store all replicas share.

A key names the schema, the encoder, and a hash of tenant and text: answers tell
whether a text was read before, and one tenant must not learn that of another.
The value repeats the hash, so that a reply meant for another key is not believed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Protocol

from services.feature.encoding import Encoding, pack, unpack
from services.feature.tally import Tally
from thermesh.clock import Clock
from thermesh.features import SCHEMA_VERSION

_DIGEST_BYTES = 16


class StoreAway(Exception):
    """The store did not answer in time, or not at all."""


class Store(Protocol):
    """Bytes by name that live for a while; any call may raise StoreAway."""

    async def get(self, key: str) -> bytes | None:
        """Return the value of `key`, None where it has none."""
        ...

    async def put(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Keep `value` under `key` for `ttl_seconds`, in place of what was there."""
        ...


class MemoryStore:
    """A Store in this process: the `capacity` most recently used values."""

    def __init__(self, capacity: int, clock: Clock) -> None:
        self._capacity = capacity
        self._clock = clock
        self._values: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, key: str) -> bytes | None:
        """Return the value of `key` and make it the most recently used."""
        expires, value = self._values.get(key, (0.0, b""))
        if expires <= self._clock.monotonic():
            self._values.pop(key, None)
            return None
        self._values.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Keep `value`, and drop the least recently used beyond the capacity."""
        self._values[key] = (self._clock.monotonic() + ttl_seconds, value)
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)


def digest(*parts: str) -> bytes:
    """Return 16 bytes that differ for different sequences of `parts`."""
    hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hashed.update(len(encoded).to_bytes(8, "little") + encoded)
    return hashed.digest()


class EncodingCache:
    """Encodings by tenant and text. `encoder` names the model, `dimensions` its width."""

    def __init__(
        self,
        *,
        local: Store,
        shared: Store,
        tally: Tally,
        encoder: str,
        dimensions: int,
        ttl_seconds: int,
    ) -> None:
        self._local = local
        self._shared = shared
        self._tally = tally
        self._prefix = f"thermesh:feature:encoding:{SCHEMA_VERSION}:{encoder}:"
        self._dimensions = dimensions
        self._ttl_seconds = ttl_seconds

    async def get(self, tenant: str, text: str, *, only_local: bool = False) -> Encoding | None:
        """Return the encoding of a text this tenant sent before, None where it is not kept.

        `only_local` asks this process alone.
        """
        content = digest(tenant, text)
        stores = (("local", self._local), ("shared", self._shared))
        for name, store in stores[:1] if only_local else stores:
            value = await store.get(self._prefix + content.hex())
            encoding = self._believe(content, value)
            if value and encoding:
                self._tally.looked_up(name)
                if store is self._shared:
                    await self._local.put(self._prefix + content.hex(), value, self._ttl_seconds)
                return encoding
        self._tally.looked_up("miss")
        return None

    async def nearby(self, tenant: str, text: str) -> Encoding | None:
        """Return the encoding where this process keeps it; waits for nobody."""
        content = digest(tenant, text)
        return self._believe(content, await self._local.get(self._prefix + content.hex()))

    async def put(
        self, tenant: str, text: str, encoding: Encoding, share_after_seconds: float = 0.0
    ) -> None:
        """Keep an encoding here and, that much later, where the other replicas find it."""
        content = digest(tenant, text)
        key, value = self._prefix + content.hex(), content + pack(encoding)
        await self._local.put(key, value, self._ttl_seconds)
        await asyncio.sleep(share_after_seconds)
        await self._shared.put(key, value, self._ttl_seconds)

    def _believe(self, content: bytes, value: bytes | None) -> Encoding | None:
        if value is None or value[:_DIGEST_BYTES] != content:
            return None
        return unpack(value[_DIGEST_BYTES:], self._dimensions)
