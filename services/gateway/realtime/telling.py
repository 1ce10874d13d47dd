"""What a response tells its client: held until it may be told, then in order, until it is hushed.

What is told after a hush has no words and no sound, however much of it waits:
a client that interrupted hears nothing more of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from services.gateway.realtime.channel import Channel
from services.gateway.realtime.latency import Latency
from thermesh.clock import Clock

MOST_HELD = 64

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """An event to be told; words of `token_count` tokens, or sound of `length_ms`."""

    kind: str
    members: Json = field(default_factory=dict)
    token_count: int = 0
    length_ms: float = 0.0

    @property
    def is_content(self) -> bool:
        """Whether it carries some of the answer."""
        return self.kind.endswith(".delta")


class Telling:
    """The way from one response to the client. Moments go into `latency`."""

    def __init__(self, channel: Channel, clock: Clock, latency: Latency) -> None:
        self.token_count = 0
        """Tokens whose words were told."""
        self._channel = channel
        self._clock = clock
        self._latency = latency
        self._sent_ms = 0.0
        self._is_hushed = False
        self._released = asyncio.Event()
        self._held: asyncio.Queue[Event | None] = asyncio.Queue(MOST_HELD)

    @property
    def heard_ms(self) -> float:
        """How much of the speech can have been played by now."""
        if self._latency.first_audio is None:
            return 0.0
        played = (self._clock.monotonic() - self._latency.first_audio) * 1000
        return min(self._sent_ms, played)

    @property
    def is_playing(self) -> bool:
        """Whether some of the speech that was sent cannot have been played yet."""
        return self.heard_ms < self._sent_ms

    def release(self) -> None:
        """Let the client hear of it."""
        self._released.set()

    def hush(self) -> None:
        """Tell no more of the answer, also of what is held."""
        self._is_hushed = True

    async def tell(self, event: Event) -> None:
        """Hold an event until it is its turn; waits while much is held."""
        await self._held.put(event)

    async def end(self) -> None:
        """Say that nothing more will be told."""
        await self._held.put(None)

    async def run(self, opening: Callable[[], Awaitable[None]]) -> None:
        """Once released, tell the opening and then everything, up to the end."""
        await self._released.wait()
        await opening()
        while (event := await self._held.get()) is not None:
            if not (event.is_content and self._is_hushed):
                self._note(event)
                await self._channel.tell(event.kind, **event.members)

    def _note(self, event: Event) -> None:
        self.token_count += event.token_count
        self._sent_ms += event.length_ms
        if event.length_ms and self._latency.first_audio is None:
            self._latency.first_audio = self._clock.monotonic()
