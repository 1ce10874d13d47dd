"""What is still to be sent on a bidirectional call: a bounded queue that ends when told to.

The iterator style of grpc.aio is used on purpose: messages queue here, in order and
bounded, and whoever sends one never waits. The sender of the call ends as soon as the
outbox is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from thermesh.errors import ResourceExhausted

MAX_WAITING = 64

Message = TypeVar("Message")


class Outbox(Generic[Message]):
    """Messages on their way to a neighbour, in order."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_closed = False

    def send(self, message: Message) -> None:
        """Queue a message; raise ResourceExhausted where the neighbour does not read.

        After `close` nothing is sent.
        """
        if self._is_closed:
            return
        if self._waiting.qsize() >= MAX_WAITING:
            raise ResourceExhausted(
                "messages come faster than they can be taken up",
                reason="TOO_MANY_MESSAGES",
                retry_after=1.0,
            )
        self._waiting.put_nowait(message)

    def close(self) -> None:
        """Send nothing more, not even what waits."""
        if self._is_closed:
            return
        self._is_closed = True
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the messages until the outbox is closed."""
        while (message := await self._waiting.get()) is not None:
            yield message
