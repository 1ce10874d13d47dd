"""What waits between inference and a client: in order, bounded, and no more messages than needed.

Tokens that wait together leave together. Nothing is held back for that: a client
that keeps up gets each token by itself, and one that does not gets fewer, larger
messages, which cost it and the gateway less. Knows nothing of tasks or calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from services.gateway.events import Event, Tokens
from thermesh.bell import Bell
from thermesh.errors import MeshError

MOST_EVENTS = 64
"""Events held for a slow client; behind them HTTP/2 flow control and credits stop the engine."""

MOST_TOGETHER = 16
"""Tokens of one merged event, so that all that wait are at most 1024, the engine's own bound."""

Happening = Event | MeshError


class Backlog:
    """A queue of at most `most_events`."""

    def __init__(self, most_events: int = MOST_EVENTS) -> None:
        self._most_events = most_events
        self._waiting: deque[Happening] = deque()
        self._came, self._room = Bell(), asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, event: Happening) -> None:
        """Add an event; wait while there is no room. After `close` it is dropped."""
        if self._merged(event):
            return
        while len(self._waiting) >= self._most_events and not self._is_closed:
            self._room.clear()
            await self._room.wait()
        if not self._is_closed:
            self._waiting.append(event)
            self._came.ring()

    def close(self) -> None:
        """Let nobody wait to add what nobody will take."""
        self._is_closed = True
        self._room.set()

    async def get(self, patience_seconds: float | None = None) -> Happening | None:
        """Take the oldest event; None where none comes within the patience. For one reader."""
        while not self._waiting:
            if not await self._came.heard(patience_seconds):
                return None
        self._room.set()
        return self._waiting.popleft()

    def _merged(self, event: Happening) -> bool:
        """Add tokens to those that wait last, if any do; tell whether that was done."""
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(event, Tokens) or not isinstance(last, Tokens):
            return False
        if len(last.tokens) + len(event.tokens) > MOST_TOGETHER:
            return False
        self._waiting[-1] = replace(last, tokens=(*last.tokens, *event.tokens))
        return True
