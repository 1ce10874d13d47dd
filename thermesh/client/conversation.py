"""One turn as its client sees it: events to iterate over, words to steer it with.

A turn may take several calls: one that failed before its first event is opened
again, and a resumable one goes on after the connection broke. What the server
has not answered yet is said again then; see `Converse` in chat.proto for why
that is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from thermesh import rpc, wire
from thermesh.client.patience import Patience
from thermesh.errors import FailedPrecondition, MeshError, NotFound, Unavailable
from thermesh.events import Event, Guard, Penalties, Program
from thermesh.interceptors import CALL_BROKE
from thermesh.v1 import chat_pb2, common_pb2

LEAVE_SECONDS = 1.0
"""How long who leaves a resumable turn early waits for the server to end it."""


class Unanswered:
    """What was said and not answered, in the order in which to say it again."""

    def __init__(self) -> None:
        self._append: chat_pb2.ConverseRequest | None = None
        self._updates: dict[int, chat_pb2.ConverseRequest] = {}
        self._ending: chat_pb2.ConverseRequest | None = None

    def say(self, message: chat_pb2.ConverseRequest) -> None:
        """Remember a message; credit is not, since saying it twice would count twice."""
        kind = message.WhichOneof("message")
        if kind == "append":
            self._append = message
        elif kind == "update":
            self._updates[message.update.update_id] = message
        elif kind in {"interrupt", "cancel"}:
            self._ending = self._ending or message

    def hear(self, response: chat_pb2.ConverseResponse) -> None:
        """Forget what a response answers."""
        kind = response.WhichOneof("message")
        if kind == "accepted":
            self._append = None
        elif kind == "applied" and response.applied.source == common_pb2.UPDATE_SOURCE_CLIENT:
            self._updates.pop(response.applied.update_id, None)
        elif kind == "rejected":
            self._updates.pop(response.rejected.update_id, None)

    def messages(self) -> list[chat_pb2.ConverseRequest]:
        """Return what to say again."""
        said = [self._append, *self._updates.values(), self._ending]
        return [message for message in said if message is not None]


class Conversation:
    """One turn: iterate over it for its events, once; steer it meanwhile.

    The call is opened when iteration begins and cancelled when it ends.
    """

    def __init__(
        self, open_call: Callable[[], Any], start: chat_pb2.ConverseStart, patience: Patience
    ) -> None:
        self._open_call = open_call
        self._start = start
        self._patience = patience
        self._call: Any = None
        self._updates = 0
        self._unanswered = Unanswered()
        self._speaking = asyncio.Lock()
        self._last_number = 0
        self._has_begun = False
        self._is_over = False
        self._failures = 0
        self._broke: MeshError | None = None
        self._resume_until = 0.0
        self._resume_seconds = 0.0

    @property
    def is_resumable(self) -> bool:
        """Whether the turn was asked to outlive its connection."""
        return self._start.resume_grace_ms > 0

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events of the turn; raise a MeshError where it failed."""
        if self._call is not None:
            raise FailedPrecondition("a conversation can be iterated over only once")
        try:
            async with contextlib.aclosing(self._responses()) as responses:  # type: ignore[type-var]
                async for response in responses:
                    if (event := wire.event(response)) is not None:
                        yield event
        finally:
            await self._leave()

    async def update(
        self,
        *,
        program: Program | None = None,
        guard: Guard | None = None,
        penalties: Penalties | None = None,
        token_budget: int | None = None,
    ) -> int:
        """Change parameters at the next token; return the update's id.

        `Applied` with that id tells from which token on, `Rejected` why not.
        """
        self._updates += 1
        update = common_pb2.ParameterUpdate(
            update_id=self._updates,
            program=wire.program_message(program),
            guard=wire.guard_message(guard),
            penalties=wire.penalties_message(penalties),
            token_budget=token_budget,
        )
        await self._say(update=update)
        return update.update_id

    async def append(self, text: str, *, is_final: bool) -> None:
        """Bring the user's words so far, where the turn began with `awaiting_input`."""
        await self._say(append=chat_pb2.AppendInput(text=text, is_final=is_final))

    async def credit(self, tokens: int) -> None:
        """Allow `tokens` more, in [1, 65536]; lost where the connection breaks just then."""
        await self._say(credit=common_pb2.Credit(tokens=tokens))

    async def interrupt(self, heard_tokens: int) -> None:
        """End the answer because the user spoke: only `heard_tokens` of it count."""
        await self._say(interrupt=chat_pb2.Interrupt(heard_tokens=heard_tokens))

    async def cancel(self) -> None:
        """End the answer; `End` with finish_reason `cancelled` follows."""
        await self._say(cancel=chat_pb2.CancelConversation())

    def close(self) -> None:
        """Drop the call at once, without waiting for its end.

        A resumable turn then lives for its grace: `cancel` ends it sooner.
        """
        if self._call is not None:
            self._call.cancel()

    async def _responses(self) -> AsyncIterator[chat_pb2.ConverseResponse]:
        while not self._is_over:
            try:
                async with contextlib.aclosing(self._one_call()) as responses:  # type: ignore[type-var]
                    async for response in responses:
                        yield response
                self._is_over = True
            except MeshError as error:
                await asyncio.sleep(self._wait_after(error))

    async def _one_call(self) -> AsyncIterator[chat_pb2.ConverseResponse]:
        async with self._speaking:
            call = self._call = self._open_call()
            with contextlib.suppress(MeshError):  # reading tells why
                for message in (self._opening(), *self._unanswered.messages()):
                    await self._write(message)
        with rpc.translated():
            async for response in call:
                self._note(response)
                yield response

    def _opening(self) -> chat_pb2.ConverseRequest:
        """The first message of a call: to go on with the turn, where it may have begun."""
        if not self.is_resumable or self._broke is None:
            return chat_pb2.ConverseRequest(start=self._start)
        context = self._start.context
        return chat_pb2.ConverseRequest(
            resume=chat_pb2.ConverseResume(
                request_id=context.request_id,
                last_sequence_number=self._last_number,
                tenant=context.tenant,
            )
        )

    def _note(self, response: chat_pb2.ConverseResponse) -> None:
        self._failures, self._has_begun = 0, True
        self._last_number = response.sequence_number
        self._unanswered.hear(response)
        kind = response.WhichOneof("message")
        self._is_over = kind == "end"
        if kind == "accepted":
            self._resume_seconds = response.accepted.resume_grace_ms / 1000

    def _wait_after(self, error: MeshError) -> float:
        """Return how long to wait before the next call; raise what ends the turn."""
        if isinstance(error, NotFound) and self._broke and not self._has_begun:
            self._broke = None  # the turn never began
            return 0.0
        self._failures += 1
        if not self._has_begun and self._patience.allows(error, self._failures):
            self._broke = error
            return self._patience.wait(error, self._failures)
        if _is_break(error) and self._can_resume():
            self._broke = error
            return self._patience.backoff(self._failures)
        self._is_over = True
        if isinstance(error, NotFound) and self._broke:
            raise self._broke from error
        raise error

    def _can_resume(self) -> bool:
        """Whether the server still keeps the turn; the grace runs from the first failure."""
        if self._failures == 1:
            self._resume_until = time.monotonic() + self._resume_seconds
        return time.monotonic() < self._resume_until

    async def _leave(self) -> None:
        """End a resumable turn that is left early: closing alone would let it decode on."""
        try:
            if self.is_resumable and self._call is not None and not self._is_over:
                with contextlib.suppress(MeshError, TimeoutError):
                    async with asyncio.timeout(LEAVE_SECONDS):
                        await self.cancel()
                        await self._end()
        finally:
            self._is_over = True
            self.close()

    async def _end(self) -> None:
        with rpc.translated():
            async for response in self._call:
                if response.HasField("end"):
                    return

    async def _say(self, **message: Any) -> None:
        if self._call is None:
            raise FailedPrecondition("the conversation begins when it is iterated over")
        if self._is_over:
            raise FailedPrecondition("the conversation is over")
        request = chat_pb2.ConverseRequest(**message)
        self._unanswered.say(request)
        # Where a resumable turn breaks just now, it is said again; reading tells the rest.
        lost = (MeshError,) if self.is_resumable else ()
        async with self._speaking:
            with contextlib.suppress(*lost):
                await self._write(request)

    async def _write(self, request: chat_pb2.ConverseRequest) -> None:
        with rpc.translated():
            try:
                await self._call.write(request)
            except asyncio.InvalidStateError as error:
                raise FailedPrecondition("the conversation is over") from error
            except grpc.aio.AioRpcError as error:
                # The server ended the call while this was on its way: as lost as a moment
                # later, when reading tells of the end.
                if error.code() is not grpc.StatusCode.INTERNAL:
                    raise


def _is_break(error: MeshError) -> bool:
    """Whether the connection may be what failed, not the turn."""
    return isinstance(error, Unavailable) or error.reason == CALL_BROKE
