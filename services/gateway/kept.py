"""Conversations that are continued by the id of their last response.

Kept in Redis for all gateways, a while, by tenant: one cannot continue what
another said. Writing hides behind the answer's end; until it is done, this
process answers from what it is about to write.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from services.gateway.asking import Message, Role
from services.gateway.breaker import Breaker
from services.gateway.keeping import StoreAway
from thermesh.clock import Clock
from thermesh.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

MOST_WRITING = 256


class TextStore(Protocol):
    """Texts by name that live a while; any call may raise StoreAway."""

    async def get_text(self, name: str) -> str | None:
        """Return a text, None where there is none."""
        ...

    async def put_text(self, name: str, text: str, ttl_seconds: int) -> None:
        """Keep a text."""
        ...


class Conversations:
    """Keeps what was said up to a response."""

    def __init__(self, store: TextStore, clock: Clock, ttl_seconds: int) -> None:
        self._breaker = Breaker(clock)
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._writing: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, tenant: str, response_id: str, messages: Sequence[Message]) -> None:
        """Keep `messages`, the answer last; nobody waits for it."""
        if len(self._writing) >= MOST_WRITING:
            log.warning("more than %d responses are being kept; one is not", MOST_WRITING)
            return
        text = json.dumps([response_id, *((turn.role.value, turn.content) for turn in messages)])
        name = _name(tenant, response_id)
        self._writing[name] = text
        task = asyncio.create_task(self._write(name, text), name="keep")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def recall(self, tenant: str, response_id: str) -> tuple[Message, ...]:
        """Return what was said up to a response; raise NotFound, or Unavailable without Redis."""
        name = _name(tenant, response_id)
        try:
            text = self._writing.get(name) or await self._store.get_text(name)
        except StoreAway:
            raise Unavailable("kept responses cannot be read now", retry_after=1.0) from None
        kept: list[Any] = json.loads(text) if text else [""]
        if kept[0] != response_id:
            raise NotFound(
                f"response {response_id} is not kept, or not any more",
                field="previous_response_id",
                reason="PREVIOUS_RESPONSE_NOT_FOUND",
            )
        return tuple(Message(Role(role), content) for role, content in kept[1:])

    async def close(self) -> None:
        """Finish what is being written."""
        await asyncio.gather(*self._tasks)

    async def _write(self, name: str, text: str) -> None:
        try:
            if self._breaker.allows():
                await self._store.put_text(name, text, self._ttl_seconds)
                if self._breaker.succeed():
                    log.warning("responses are kept again")
        except StoreAway:
            if self._breaker.fail():
                log.warning("responses are not kept: Redis is away")
        finally:
            del self._writing[name]


def _name(tenant: str, response_id: str) -> str:
    return f"thermesh:response:{tenant}:{response_id}"
