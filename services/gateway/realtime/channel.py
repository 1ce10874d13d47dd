"""Events to one client, in order, bounded, with a number of their own.

A client that does not read fills the queue; then those who tell it something
wait, and with them the engine. One that reads nothing for SLOW_SECONDS is let go.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from services.gateway.realtime.items import new_id

Json = dict[str, Any]

MOST_WAITING = 64
SLOW_SECONDS = 30.0


class SlowReader(Exception):
    """The client does not read."""


class Channel:
    """The way to one client."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: asyncio.Queue[Json] = asyncio.Queue(MOST_WAITING)
        self._prefix = new_id("event")
        self._numbers = itertools.count(1)

    async def tell(self, kind: str, **members: Any) -> None:
        """Send an event; waits while the client is behind."""
        await self._waiting.put({"type": kind, **members})

    async def run(self) -> None:
        """Send what waits until cancelled; raise SlowReader."""
        while True:
            event = await self._waiting.get()
            event["event_id"] = f"{self._prefix}_{next(self._numbers)}"
            text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
            try:
                async with asyncio.timeout(SLOW_SECONDS):
                    await self._send(text)
            except TimeoutError:
                raise SlowReader from None
