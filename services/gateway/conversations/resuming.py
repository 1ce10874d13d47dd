"""Turns that outlive their connection, for clients that asked for it.

Theory of operation. A usual turn lives in the handler of its call and dies
with it. A resumable one lives in a task of its own: what its client says comes
through a bounded inbox, what happens goes into a `Window`, and a call is only
a reader of that window which anybody with the same tenant and key can replace.

    read <--> detached --grace--> forgotten

Rule 1: one reader at a time. A new one takes over, the old one is Aborted: it
is most often a connection that broke without our hearing of it.
Rule 2: who made the turn waits where the window is full, whether or not there
is a reader; so memory is bounded, and the engine stops as behind any slow client.
Rule 3: without a reader the turn lives for its grace, ended or not. Then
decoding is cancelled as if the client had gone that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from services.gateway import limits
from services.gateway.callers import Caller
from services.gateway.conversations.conversation import Conversation, Resume, Said, Start
from services.gateway.conversations.window import Happening, Window
from services.gateway.events import Accepted, Event
from thermesh.errors import (
    Aborted,
    AlreadyExists,
    Internal,
    MeshError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

log = logging.getLogger(__name__)

MOST_UNHEARD = 64
"""Messages of the client that wait for their turn; behind them HTTP/2 holds back."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may resume a turn: nobody else learns that it exists."""

    tenant: str
    key_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the gateway keeps: turns, events on either side of a reader, and for how long."""

    turns: int
    events: int
    seconds: float


class ResumableTurn:
    """One turn and whoever reads it; needs a running event loop."""

    def __init__(
        self,
        conversation: Conversation,
        start: Start,
        most_events: int,
        forget: Callable[[], None],
    ) -> None:
        self.conversation = conversation
        self._start = start
        self._forget = forget
        self._window = Window(most_events)
        self._inbox: asyncio.Queue[Said | MeshError] = asyncio.Queue(MOST_UNHEARD)
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._reader: object | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._making = asyncio.create_task(self._make(), name="resumable")

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen and nobody reads what did."""
        return self._making.done() and self._reader is None

    async def events(
        self, said: AsyncIterator[Said], last_number: int = 0
    ) -> AsyncIterator[tuple[int, Event]]:
        """Yield the numbered events after `last_number`, and obey what is said meanwhile.

        Raises what `Window.check` raises, Aborted where another reader took
        over, and the MeshError that ends the turn.
        """
        self._window.check(last_number)
        reader = self._attach()
        hearing = asyncio.create_task(self._hear(said), name="hear")
        try:
            while (event := await self._next(reader, last_number + 1)) is not None:
                last_number += 1
                yield last_number, event
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            self._detach(reader)

    async def close(self) -> None:
        """End the turn whatever it does."""
        self._expire()
        await asyncio.gather(self._making, return_exceptions=True)

    def _attach(self) -> object:
        if self._expiry:
            self._expiry.cancel()
        self._reader = object()
        self._arrived.set()  # wakes the reader before, which finds itself replaced
        return self._reader

    def _detach(self, reader: object) -> None:
        if self._reader is reader:
            self._reader = None
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(self._start.resume_seconds, self._expire)

    def _expire(self) -> None:
        if self._expiry:
            self._expiry.cancel()
        self._making.cancel()
        self._forget()

    async def _next(self, reader: object, number: int) -> Event | None:
        """Return event `number`; None after the last."""
        while True:
            if self._reader is not reader:
                raise Aborted("the turn is read by another call now", reason="TAKEN_OVER")
            event = self._window.take(number)
            self._room.set()
            if isinstance(event, MeshError):
                self._forget()
                raise event
            if event is not None or self._making.done():
                return event
            self._arrived.clear()
            await self._arrived.wait()

    async def _hear(self, said: AsyncIterator[Said]) -> None:
        try:
            async for message in said:
                await self._inbox.put(message)
        except MeshError as error:
            await self._inbox.put(error)

    async def _heard(self) -> AsyncIterator[Said]:
        # It never ends: to a server a torn line looks like a client that has
        # said everything, so that only time can tell that no more will come.
        yield self._start
        while True:
            message = await self._inbox.get()
            if isinstance(message, MeshError):
                raise message
            yield message

    async def _make(self) -> None:
        try:
            async with contextlib.aclosing(self.conversation.events(self._heard())) as events:  # type: ignore[type-var]
                async for event in events:
                    await self._put(event)
        except MeshError as error:
            self._window.add(error)
        except asyncio.CancelledError:
            self._window.add(Unavailable("the gateway ended the turn", retry_after=1.0))
            raise
        except Exception:
            log.exception("a resumable turn failed unexpectedly")
            self._window.add(Internal("internal error; the gateway's log has the details"))
        finally:
            # Once this task is done, so that a reader that finds nothing knows it is the end.
            asyncio.get_running_loop().call_soon(self._arrived.set)

    async def _put(self, event: Event) -> None:
        while self._window.is_full:
            self._room.clear()
            await self._room.wait()
        self._window.add(self._granted(event))
        self._arrived.set()

    def _granted(self, event: Event) -> Happening:
        if isinstance(event, Accepted):
            return replace(event, resume_seconds=self._start.resume_seconds)
        return event


class ResumableTurns:
    """The resumable turns of this gateway, by owner; bounded."""

    def __init__(self, converse: Callable[[Caller], Conversation], bounds: Bounds) -> None:
        self._converse = converse
        self._bounds = bounds
        self._turns: dict[Owner, ResumableTurn] = {}

    def wants(self, start: Start) -> bool:
        """Whether a turn asks to be kept, and turns are kept here."""
        return min(start.resume_seconds, self._bounds.seconds) > 0

    def begin(self, start: Start, caller: Caller) -> ResumableTurn:
        """Begin a turn. Raises AlreadyExists for a name in use, ResourceExhausted when full."""
        context = start.ask.context
        limits.check_context(context)
        owner = Owner(caller.tenant_for(context.tenant), caller.key_id, context.request_id)
        if owner in self._turns:
            raise AlreadyExists(
                f"turn {owner.request_id} is under way; resume it", field="context.request_id"
            )
        self._make_room()
        granted = replace(start, resume_seconds=min(start.resume_seconds, self._bounds.seconds))
        turn = ResumableTurn(
            self._converse(caller),
            granted,
            self._bounds.events,
            lambda: self._forget(owner, turn),
        )
        self._turns[owner] = turn
        return turn

    def find(self, resume: Resume, caller: Caller) -> ResumableTurn:
        """Return a turn that is kept; raise NotFound."""
        owner = Owner(caller.tenant_for(resume.tenant), caller.key_id, resume.request_id)
        if owner not in self._turns:
            raise NotFound(
                "no such turn is kept, or not any more", field="resume.request_id", reason="NO_TURN"
            )
        return self._turns[owner]

    async def close(self) -> None:
        """End every turn."""
        await asyncio.gather(*(turn.close() for turn in list(self._turns.values())))

    def _make_room(self) -> None:
        """Forget turns that are over where place is short, the oldest first."""
        for owner, turn in list(self._turns.items()):
            if len(self._turns) < self._bounds.turns:
                return
            if turn.is_over:
                self._forget(owner, turn)
        if len(self._turns) >= self._bounds.turns:
            raise ResourceExhausted(
                f"the gateway keeps at most {self._bounds.turns} resumable turns at once",
                field="resume_grace_ms",
                reason="RESUMABLE_LIMIT",
                retry_after=1.0,
            )

    def _forget(self, owner: Owner, turn: ResumableTurn) -> None:
        if self._turns.get(owner) is turn:
            del self._turns[owner]
