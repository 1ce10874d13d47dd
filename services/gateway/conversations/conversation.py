"""One Converse call: listen where asked to, then decode while the client steers.

    start --> decoding
    start(awaiting_input) --> listening: append* --> append(is_final) --> decoding
    decoding: update, credit; interrupt or cancel --> ending --> end

Any other order is FailedPrecondition, but for a repetition of the final
append, which a client that resumed may send. While listening, the words heard so far
are read by the feature service, so that the features of the final text are
ready when decoding begins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from services.gateway import limits
from services.gateway.asking import Ask, Features, Voice
from services.gateway.callers import Caller
from services.gateway.decoding import FinishReason, Update
from services.gateway.events import Ended, Event, Token, Tokens, Usage, Waited
from services.gateway.links import FeatureSource
from services.gateway.pipeline import Pipeline, Turn
from thermesh.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, MeshError

END_PATIENCE_SECONDS = 1.0
"""How long a client that ended its turn waits for inference to count it."""

HEARTBEAT_SECONDS = 10.0
"""Silence after which a turn says that it lives; proxies close what is silent for 60."""


@dataclass(frozen=True, slots=True)
class Start:
    """The client opens a turn."""

    ask: Ask
    awaiting_input: bool
    resume_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Resume:
    """The client goes on reading a turn after message `last_number`; see `resuming`."""

    request_id: str
    last_number: int
    tenant: str


@dataclass(frozen=True, slots=True)
class Append:
    """The client tells all words heard so far."""

    text: str
    is_final: bool
    voice: Voice | None


@dataclass(frozen=True, slots=True)
class BadUpdate:
    """The client asked for a change that is not valid."""

    update_id: int
    error: InvalidArgument


@dataclass(frozen=True, slots=True)
class Credit:
    """The client can take `tokens` more."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The user began to speak after hearing `heard_tokens` of the answer."""

    heard_tokens: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client ends the turn."""


Said = Start | Resume | Append | Update | BadUpdate | Credit | Interrupt | Cancel


class Hearing(Protocol):
    """A feature stream that follows words while they are heard."""

    def hear(self, text: str, voice: Voice | None, is_final: bool) -> None:
        """Replace the text heard so far."""
        ...

    async def features(self) -> Features:
        """Return the features of the final text, or the newest, or raise MeshError."""
        ...

    async def close(self) -> None:
        """End the stream."""
        ...


class Conversation:
    """One turn of a native client."""

    def __init__(
        self,
        pipeline: Pipeline,
        listen: Callable[[Ask], Hearing],
        max_listening_seconds: float,
        caller: Caller,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.request_id = ""
        self._heartbeat_seconds = heartbeat_seconds
        self._caller = caller
        self._pipeline = pipeline
        self._listen = listen
        self._max_listening_seconds = max_listening_seconds
        self._pieces: list[str] = []
        self._heard_tokens: int | None = None
        self._is_ending = False
        self._final: Append | None = None

    @property
    def text(self) -> str:
        """The answer so far; after an interrupt, of the heard tokens only."""
        return "".join(self._pieces[: self._heard_tokens])

    async def events(self, said: AsyncIterator[Said]) -> AsyncIterator[Event]:
        """Yield what happens until the end; raise the MeshError that ends the turn."""
        async with contextlib.AsyncExitStack() as stack:
            ask, features = await self._input(said, stack)
            turn = await stack.enter_async_context(self._pipeline.open(ask, features))
            steering = asyncio.create_task(self._steer(turn, said), name="steer")
            stack.push_async_callback(_end, steering)
            while True:
                event = await self._next(turn)
                if isinstance(event, Tokens) and self._is_ending:
                    continue
                self._note(event)
                yield event
                if isinstance(event, Ended):
                    return

    async def _next(self, turn: Turn) -> Event:
        """Return what happens next, or that nothing does."""
        waited = 0.0
        while waited < self._heartbeat_seconds:
            patience = min(END_PATIENCE_SECONDS, self._heartbeat_seconds - waited)
            event = await turn.next(patience)
            if event is not None:
                return event
            waited += patience
            if self._is_ending:
                return Ended(FinishReason.CANCELLED, Usage(completion_tokens=self._count))
        return Waited()

    @property
    def _count(self) -> int:
        return len(self._pieces)

    async def _input(
        self,
        said: AsyncIterator[Said],
        stack: contextlib.AsyncExitStack,
    ) -> tuple[Ask, FeatureSource | None]:
        try:
            async with asyncio.timeout(self._max_listening_seconds):
                start = await self._started(said)
                if not start.awaiting_input:
                    limits.check_ask(start.ask)
                    return start.ask, None
                most = start.ask.allowance.requests_at_once
                admission = self._pipeline.turnstile.admission
                with admission.entered(start.ask.context.tenant, most):
                    return await self._heard(start.ask, said, stack)
        except TimeoutError:
            seconds = self._max_listening_seconds
            raise DeadlineExceeded(f"no complete input came within {seconds:.0f} s") from None

    async def _started(self, said: AsyncIterator[Said]) -> Start:
        message = await anext(said, None)
        if not isinstance(message, Start):
            raise FailedPrecondition("the first message must be start", field="start")
        self.request_id = message.ask.context.request_id
        limits.check_context(message.ask.context)
        return replace(message, ask=self._caller.sign(message.ask))

    async def _heard(
        self,
        ask: Ask,
        said: AsyncIterator[Said],
        stack: contextlib.AsyncExitStack,
    ) -> tuple[Ask, FeatureSource]:
        opened = ask.with_input("", None)
        limits.check_constraints(ask.constraints)
        hearing = self._listen(opened)
        stack.push_async_callback(hearing.close)
        async for message in said:
            if not isinstance(message, Append):
                raise _out_of_order(message, "while the input is awaited, only append may come")
            complete = ask.with_input(message.text, message.voice)
            if message.is_final:
                limits.check_ask(complete)
            hearing.hear(message.text, message.voice, message.is_final)
            if message.is_final:
                self._final = message
                return complete, hearing.features
        raise FailedPrecondition("the stream ended before append with is_final", field="append")

    async def _steer(self, turn: Turn, said: AsyncIterator[Said]) -> None:
        try:
            async for message in said:
                await self._obey(turn, message)
        except MeshError as error:
            await turn.fail(error)

    async def _obey(self, turn: Turn, message: Said) -> None:
        if isinstance(message, Update):
            await _update(turn, message)
        elif isinstance(message, BadUpdate):
            await turn.refuse(message.update_id, message.error)
        elif isinstance(message, Credit):
            limits.check_credit(message.tokens)
            turn.credit(message.tokens)
        elif isinstance(message, Interrupt | Cancel):
            self._end_turn(turn, message)
        elif message != self._final:
            raise _out_of_order(message, "decoding has begun")

    def _end_turn(self, turn: Turn, message: Interrupt | Cancel) -> None:
        if self._is_ending:
            return
        self._is_ending = True
        if isinstance(message, Interrupt):
            self._heard_tokens = min(message.heard_tokens, self._count)
        turn.cancel(self._count)

    def _note(self, event: Event) -> None:
        if isinstance(event, Tokens):
            self._pieces.extend(map(_text, event.tokens))


async def _update(turn: Turn, update: Update) -> None:
    try:
        limits.check_update(update)
        turn.update(update)
    except MeshError as error:
        await turn.refuse(update.update_id, error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _text(token: Token) -> str:
    return token.text


def _out_of_order(message: Said, rule: str) -> FailedPrecondition:
    name = type(message).__name__.lower()
    return FailedPrecondition(f"{name} may not come now: {rule}", field=name)
