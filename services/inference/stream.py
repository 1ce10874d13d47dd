"""The asyncio end of one generation: what its handler says and hears.

The engine thread only reads `taken` and `is_cancelled` and writes `handled`;
all else belongs to the event loop. Values with one writer each need no lock.

A cancellation is exact: it takes effect here, where it is heard, and not when
the engine thread gets to it. Tokens that were not taken by then are dropped,
those of the step in flight too, and the end counts what the client kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.inference.events import Ended, Event, Rejected, Token
from services.inference.request import Plan, Update
from services.inference.sequences.sequence import MAX_BUFFERED_TOKENS
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError, ResourceExhausted

if TYPE_CHECKING:
    from services.inference.engine import Engine

MAX_PENDING_COMMANDS = 64
"""Changes of one stream that may wait for the next token boundary."""

MAX_PENDING_EVENTS = 2 * MAX_BUFFERED_TOKENS
"""Tokens pause at half of it; the rest is for answers to changes."""

MAX_CREDIT = 65_536


class Stream:
    """One open generation; made by `Engine.open`. Close it whatever happens."""

    def __init__(self, engine: Engine) -> None:
        self.taken = 0
        self.handled = 0
        self._sent = 0
        self._engine = engine
        self._events: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._failure: MeshError | None = None
        self._is_over = False
        self._has_plan = False
        self.is_cancelled = False

    def push(self, event: Event) -> None:
        """Take an event of the engine, in the event loop."""
        if self.is_cancelled and isinstance(event, Token):
            return
        self._is_over = self._is_over or isinstance(event, Ended)
        self._events.append(event)
        self._ready.set()
        if len(self._events) > MAX_PENDING_EVENTS:
            message = "the stream is not read while changes are asked for"
            self.fail(ResourceExhausted(message, reason="READER_TOO_SLOW"))
            self._events.pop()

    async def take(self) -> list[Event]:
        """Wait for events and return all there are, at least one.

        Raises what `fail` was given, once everything before it was taken.
        """
        while not self._events and self._failure is None:
            self._ready.clear()
            await self._ready.wait()
        events = list(self._events)
        self._events.clear()
        tokens = sum(isinstance(event, Token) for event in events)
        if tokens:
            self.taken += tokens
            self._engine.wake()
        if self._failure is not None and not events:
            raise self._failure
        return events

    def fail(self, error: MeshError) -> None:
        """End the stream with `error`: its client broke the rules."""
        self._failure = error
        self._ready.set()

    def plan(self, plan: Plan) -> None:
        """Hand on the controller's plan; a second one is FailedPrecondition."""
        self._note_plan()
        self._send(lambda: self._engine.decoder.plan(self, plan))

    def refuse_plan(self, error: InvalidArgument) -> None:
        """Answer a plan that cannot be read, and go on without one."""
        self._note_plan()
        self.push(Rejected(0, error.field, error.message))
        self._send(lambda: self._engine.decoder.forgo_plan(self))

    def update(self, update: Update) -> None:
        """Hand on a change of the client's."""
        self._send(lambda: self._engine.decoder.update(self, update))

    def refuse_update(self, update_id: int, error: InvalidArgument) -> None:
        """Answer an update that cannot be read."""
        self.push(Rejected(update_id, error.field, error.message))

    def credit(self, tokens: int) -> None:
        """Let `tokens` more be sent; raise InvalidArgument outside [1, 65536]."""
        if not 1 <= tokens <= MAX_CREDIT:
            message = f"credit.tokens must be in [1, {MAX_CREDIT}]"
            raise InvalidArgument(message, field="credit.tokens")
        self._send(lambda: self._engine.decoder.credit(self, tokens))

    def cancel(self, kept: int | None = None) -> None:
        """End the generation, of which the client keeps so many tokens, at most
        those taken (None: all of them); `Ended` follows, and no token.
        """
        if self.is_cancelled:
            return
        self.is_cancelled = True
        keeps = self.taken if kept is None else min(kept, self.taken)
        self._events = deque(
            event.keeping(keeps) if isinstance(event, Ended) else event
            for event in self._events
            if not isinstance(event, Token)
        )
        if not self._is_over:
            self._engine.post(lambda: self._engine.decoder.cancel(self, keeps))

    def close(self) -> None:
        """Let the engine free everything. May be called again."""
        self.cancel()

    def _note_plan(self) -> None:
        if self._has_plan:
            raise FailedPrecondition("a plan was sent before; change it by update")
        self._has_plan = True

    def _send(self, command: Callable[[], None]) -> None:
        if self._sent - self.handled >= MAX_PENDING_COMMANDS:
            message = f"more than {MAX_PENDING_COMMANDS} changes wait for the next token"
            raise ResourceExhausted(message, reason="TOO_MANY_CHANGES", retry_after=0.1)
        self._sent += 1
        self._engine.post(lambda: self._run(command))

    def _run(self, command: Callable[[], None]) -> None:
        self.handled += 1
        command()
