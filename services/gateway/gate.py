"""Who may come in: the key of a request, looked up once and then remembered.

What Redis said of a key holds for FRESH_SECONDS, so that a revoked key works
that long at most; while Redis is away, known keys go on for STALE_SECONDS and
unknown ones are told to come again. Neither keys nor their digests are logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from services.gateway.asking import Priority
from services.gateway.breaker import Breaker
from services.gateway.callers import Caller
from services.gateway.keeping import StoreAway
from thermesh.clock import Clock
from thermesh.errors import Unauthenticated, Unavailable
from thermesh.keys import UNLIMITED, Allowance, Key, digest, is_secret

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
STALE_SECONDS = 3600.0
MOST_REMEMBERED = 4096
MOST_LOOKING = 256


class KeyStore(Protocol):
    """Where keys are kept."""

    async def key(self, key_digest: str) -> tuple[Key, Allowance | None] | None:
        """Return a key and its tenant's allowance, None where unknown; raise StoreAway."""
        ...


@dataclass(frozen=True, slots=True)
class _Remembered:
    caller: Caller | None
    at: float


class Gate:
    """Tells who asks. `required` False: nobody is asked for a key."""

    def __init__(
        self, store: KeyStore, clock: Clock, *, required: bool, usual: Allowance = UNLIMITED
    ) -> None:
        self.required = required
        self._store = store
        self._clock = clock
        self._usual = usual
        self._breaker = Breaker(clock)
        self._looking: dict[str, asyncio.Task[Caller | None]] = {}
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    async def admit(self, authorization: str | None) -> Caller:
        """Return the caller of a request with this `Authorization`.

        Raises Unauthenticated without a valid key, Unavailable where it cannot
        be looked up now.
        """
        if not self.required:
            return Caller(allowance=self._usual, is_admin=True)
        kind, _, secret = (authorization or "").strip().partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret:
            raise Unauthenticated(
                "send a key in the header Authorization: Bearer KEY", reason="MISSING_API_KEY"
            )
        caller = await self._known(digest(secret)) if is_secret(secret) else None
        if caller is None:
            raise Unauthenticated("the key is not valid", reason="INVALID_API_KEY")
        return caller

    async def _known(self, key_digest: str) -> Caller | None:
        remembered = self._remembered.get(key_digest)
        age = self._clock.monotonic() - remembered.at if remembered else STALE_SECONDS
        if remembered and age < FRESH_SECONDS:
            return remembered.caller
        try:
            caller = await self._look_up_once(key_digest)
        except StoreAway:
            if remembered and remembered.caller and age < STALE_SECONDS:
                return remembered.caller
            raise Unavailable("keys cannot be checked now", retry_after=1.0) from None
        self._remember(key_digest, caller)
        return caller

    async def _look_up_once(self, key_digest: str) -> Caller | None:
        """Look up; requests that come with one key at once share one question."""
        looking = self._looking.get(key_digest)
        if looking is None:
            if len(self._looking) >= MOST_LOOKING:
                raise StoreAway
            looking = asyncio.create_task(self._look_up(key_digest), name="key")
            self._looking[key_digest] = looking
            looking.add_done_callback(lambda done: self._looked_up(key_digest, done))
        return await asyncio.shield(looking)

    def _looked_up(self, key_digest: str, done: asyncio.Task[Caller | None]) -> None:
        del self._looking[key_digest]
        if not done.cancelled():
            done.exception()  # whoever asked may be gone

    async def _look_up(self, key_digest: str) -> Caller | None:
        if not self._breaker.allows():
            raise StoreAway
        try:
            found = await self._store.key(key_digest)
        except StoreAway:
            if self._breaker.fail():
                log.warning("keys cannot be looked up; those known here go on")
            raise
        if self._breaker.succeed():
            log.warning("keys can be looked up again")
        return self._caller(*found) if found else None

    def _caller(self, key: Key, allowance: Allowance | None) -> Caller:
        priority = Priority(key.priority) if key.priority else None
        return Caller(key.tenant, priority, allowance or self._usual, key.key_id, key.admin)

    def _remember(self, key_digest: str, caller: Caller | None) -> None:
        self._remembered[key_digest] = _Remembered(caller, self._clock.monotonic())
        self._remembered.move_to_end(key_digest)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
