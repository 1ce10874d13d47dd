"""Responses that can be read, told again, continued and deleted by their id.

Kept in Redis for all gateways, a while, by tenant: nobody reads what another
said. Each has a longest size, and each tenant a shelf of so many bytes, from
which the oldest go first. Writing hides behind the answer's end; until it is
done, this process answers from what it is about to write.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any, Protocol

from services.gateway.breaker import Breaker
from services.gateway.keeping import StoreAway
from thermesh.clock import Clock
from thermesh.errors import NotFound, Unavailable

log = logging.getLogger(__name__)
Json = dict[str, Any]

MOST_WRITING = 256
ATTEMPTS = 3
"""Nobody waits for a write, so that one moment without Redis need not lose it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A response that ended, and what it answers.

    `items` came in, earlier turns included; `pieces` are the texts that were
    decoded, each with its number of tokens.
    """

    response: Json
    items: tuple[Json, ...]
    pieces: tuple[tuple[str, int], ...]

    @property
    def id(self) -> str:
        """The id of the response."""
        return str(self.response["id"])

    @property
    def said(self) -> tuple[Json, ...]:
        """Everything said until now."""
        return (*self.items, *self.response["output"])


@dataclass(frozen=True, slots=True)
class Room:
    """How long a response is kept, its most bytes, and those of a tenant's all together."""

    ttl_seconds: int
    text_bytes: int
    shelf_bytes: int


class TextStore(Protocol):
    """Texts by name on shelves, that live a while; any call may raise StoreAway."""

    async def get_text(self, shelf: str, name: str) -> str | None:
        """Return a text, None where there is none."""
        ...

    async def put_text(
        self, shelf: str, name: str, text: str, *, ttl_seconds: int, shelf_bytes: int
    ) -> None:
        """Keep a text; the oldest of its shelf go until all are at most `shelf_bytes`."""
        ...

    async def drop_text(self, shelf: str, name: str) -> bool:
        """Forget a text; tell whether there was one."""
        ...


class KeptResponses:
    """Keeps responses of all tenants."""

    def __init__(self, store: TextStore, clock: Clock, room: Room) -> None:
        self._breaker = Breaker(clock)
        self._store = store
        self._room = room
        self._texts: dict[tuple[str, str], str] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def keep(self, tenant: str, kept: Kept) -> bool:
        """Keep a response, for which nobody waits; tell whether there is room for it."""
        text = json.dumps([kept.response, kept.items, kept.pieces])
        if len(self._texts) >= MOST_WRITING or len(text) > self._room.text_bytes:
            log.warning("a response of %d bytes is not kept: there is no room", len(text))
            return False
        place = (tenant, kept.id)
        self._texts[place] = text
        self._tasks[place] = asyncio.create_task(self._write(place), name="keep")
        return True

    async def recall(self, tenant: str, response_id: str, field: str) -> Kept:
        """Return a response.

        Raises NotFound, whose `field` and reason name what asked for it, or Unavailable
        without Redis.
        """
        try:
            text = self._texts.get((tenant, response_id))
            text = text or await self._store.get_text(tenant, response_id)
        except StoreAway:
            raise _away() from None
        response, items, pieces = json.loads(text) if text else ({}, (), ())
        if response.get("id") != response_id:
            raise _not_kept(response_id, field)
        return Kept(response, tuple(items), tuple(map(tuple, pieces)))

    async def forget(self, tenant: str, response_id: str) -> None:
        """Delete a response; raise NotFound, or Unavailable without Redis."""
        if writing := self._tasks.get((tenant, response_id)):
            await asyncio.wait({writing})
        try:
            was_kept = await self._store.drop_text(tenant, response_id)
        except StoreAway:
            raise _away() from None
        if not was_kept:
            raise _not_kept(response_id, "response_id")

    async def close(self) -> None:
        """Finish what is being written."""
        await asyncio.gather(*self._tasks.values())

    async def _write(self, place: tuple[str, str]) -> None:
        try:
            if self._breaker.allows():
                await self._put(*place)
                if self._breaker.succeed():
                    log.warning("responses are kept again")
        except StoreAway:
            if self._breaker.fail():
                log.warning("responses are not kept: Redis is away")
        finally:
            del self._texts[place], self._tasks[place]

    async def _put(self, tenant: str, response_id: str) -> None:
        text, room = self._texts[tenant, response_id], self._room
        limits = {"ttl_seconds": room.ttl_seconds, "shelf_bytes": room.shelf_bytes}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._store.put_text(tenant, response_id, text, **limits)
            except StoreAway:
                if attempt == ATTEMPTS:
                    raise
            else:
                return


def _away() -> Unavailable:
    return Unavailable("kept responses cannot be reached now", retry_after=1.0)


def _not_kept(response_id: str, field: str) -> NotFound:
    reason = f"{field.removesuffix('_id')}_NOT_FOUND".upper()
    message = f"response {response_id} is not kept, or not any more"
    return NotFound(message, field=field, reason=reason)
