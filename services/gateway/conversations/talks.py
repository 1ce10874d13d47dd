"""What a Converse call is about: a turn of its own, one that outlives it, or one to go on with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from services.gateway.callers import Caller
from services.gateway.conversations.conversation import Conversation, Resume, Said, Start
from services.gateway.conversations.resuming import ResumableTurns
from services.gateway.events import Ended, Event
from thermesh.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event of turn `request_id`; `text` is the whole answer where it is the end."""

    request_id: str
    number: int
    event: Event
    text: str


class Talks:
    """Serves Converse calls; one for the whole gateway."""

    def __init__(
        self,
        converse: Callable[[Caller], Conversation],
        resumables: ResumableTurns,
        max_listening_seconds: float,
    ) -> None:
        self._converse = converse
        self._resumables = resumables
        self._max_listening_seconds = max_listening_seconds

    async def events(self, said: AsyncIterator[Said], caller: Caller) -> AsyncIterator[Numbered]:
        """Yield what happens in the turn that the first message asks for."""
        first = await self._first(said)
        conversation, events = self._opened(first, said, caller)
        async with contextlib.aclosing(events):  # type: ignore[type-var]  # generators all
            async for number, event in events:
                text = conversation.text if isinstance(event, Ended) else ""
                yield Numbered(conversation.request_id, number, event, text)

    async def close(self) -> None:
        """End turns that nobody reads."""
        await self._resumables.close()

    def _opened(
        self, first: Said | None, said: AsyncIterator[Said], caller: Caller
    ) -> tuple[Conversation, AsyncIterator[tuple[int, Event]]]:
        if isinstance(first, Resume):
            kept = self._resumables.find(first, caller)
            return kept.conversation, kept.events(said, first.last_number)
        if isinstance(first, Start) and self._resumables.wants(first):
            kept = self._resumables.begin(first, caller)
            return kept.conversation, kept.events(said)
        conversation = self._converse(caller)
        return conversation, _numbered(conversation.events(_again(first, said)))

    async def _first(self, said: AsyncIterator[Said]) -> Said | None:
        seconds = self._max_listening_seconds
        try:
            async with asyncio.timeout(seconds):
                return await anext(said, None)
        except TimeoutError:
            raise DeadlineExceeded(f"no message came within {seconds:.0f} s") from None


async def _again(first: Said | None, said: AsyncIterator[Said]) -> AsyncIterator[Said]:
    if first is not None:
        yield first
    async for message in said:
        yield message


async def _numbered(events: AsyncIterator[Event]) -> AsyncIterator[tuple[int, Event]]:
    number = 0
    async with contextlib.aclosing(events):  # type: ignore[type-var]  # generators all
        async for event in events:
            number += 1
            yield number, event
