"""What a conversation was about so far, for topic shift.

The state of a session is the mean embedding of its turns and their count. It is
shared between replicas and kept here as well, so that a replica goes on by
itself while the shared store is away. Two turns of one session at the same
moment may overwrite each other: one turn less in a mean harms nobody. Tenant
and session id stand inside the value and are checked: a reply meant for another
key must never leak a conversation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from services.feature.cache import Store, digest
from services.feature.encoding import Embedding, cosine
from thermesh.features import SCHEMA_VERSION

_HEADER = struct.Struct("<IHH")  # turns, bytes of the owner's name, dimensions


@dataclass(frozen=True, eq=False)
class Session:
    """`mean`: float32 mean embedding of `turns` turns."""

    turns: int
    mean: Embedding

    def after(self, embedding: Embedding) -> Session:
        """Return the session with one more turn."""
        turns = self.turns + 1
        return Session(turns, self.mean + (embedding - self.mean) / np.float32(turns))

    def topic_shift(self, embedding: Embedding) -> float:
        """Return 0 for the same direction, 1 for the opposite one."""
        return (1.0 - cosine(self.mean, embedding)) / 2.0


@dataclass(frozen=True)
class SessionName:
    """Whose conversation it is."""

    tenant: str
    session_id: str

    def encode(self) -> bytes:
        """Return the form that stands inside the value."""
        return f"{self.tenant}/{self.session_id}".encode()


def begin(embedding: Embedding) -> Session:
    """Return a session of one turn."""
    return Session(1, embedding)


def pack(name: SessionName, session: Session) -> bytes:
    """Return `session` as bytes that tell whose it is."""
    owner = name.encode()
    header = _HEADER.pack(session.turns, len(owner), session.mean.size)
    return header + owner + session.mean.astype("<f4").tobytes()


def unpack(name: SessionName, value: bytes | None) -> Session | None:
    """Return the session in `value`, None where it is not whole or not of `name`."""
    if value is None or len(value) < _HEADER.size:
        return None
    turns, owner_bytes, dimensions = _HEADER.unpack_from(value)
    mean_at = _HEADER.size + owner_bytes
    if value[_HEADER.size : mean_at] != name.encode() or len(value) != mean_at + 4 * dimensions:
        return None
    mean = np.frombuffer(value, "<f4", offset=mean_at).astype(np.float32)
    return Session(turns, mean) if turns and bool(np.isfinite(mean).all()) else None


class Sessions:
    """Sessions by name, here and in the shared store."""

    def __init__(self, local: Store, shared: Store, dimensions: int, ttl_seconds: int) -> None:
        self._local = local
        self._shared = shared
        self._dimensions = dimensions
        self._ttl_seconds = ttl_seconds

    async def get(self, name: SessionName) -> Session | None:
        """Return the session with the most turns known; None for one that is new."""
        values = [await store.get(_key(name)) for store in (self._shared, self._local)]
        sessions = [session for value in values if (session := unpack(name, value))]
        fitting = [session for session in sessions if session.mean.size == self._dimensions]
        return max(fitting, key=lambda session: session.turns, default=None)

    async def put(self, name: SessionName, session: Session) -> None:
        """Keep `session` for its time to live from now."""
        for store in (self._local, self._shared):
            await store.put(_key(name), pack(name, session), self._ttl_seconds)


def _key(name: SessionName) -> str:
    owner = digest(name.tenant, name.session_id).hex()
    return f"thermesh:feature:session:{SCHEMA_VERSION}:{owner}"
