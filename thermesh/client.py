"""The asyncio client of a mesh.

    async with MeshClient("127.0.0.1:50050") as mesh:
        async for event in mesh.converse("What is the capital of France?"):
            if isinstance(event, Tokens):
                print(event.text, end="")

A temperature that is not given is decided by the controller and may change
from token to token. A conversation can be steered while it streams: `update`,
`credit`, `interrupt`, `cancel`. Errors are those of `thermesh.errors`.
Leaving the loop early, or the client's block, cancels the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

from thermesh import rpc, wire
from thermesh.errors import FailedPrecondition
from thermesh.events import (
    Accepted,
    Applied,
    End,
    Event,
    FeedbackReceipt,
    Guard,
    Model,
    Options,
    Penalties,
    Plan,
    Program,
    Rejected,
    Token,
    Tokens,
)
from thermesh.tls import Trust
from thermesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
)

__all__ = [
    "Accepted",
    "Applied",
    "Conversation",
    "End",
    "Event",
    "MeshClient",
    "Options",
    "Plan",
    "Rejected",
    "Token",
    "Tokens",
    "Trust",
]

UNARY_SECONDS = 10.0


class Conversation:
    """One turn: iterate over it for its events, once; steer it meanwhile.

    The call is opened when iteration begins and cancelled when it ends.
    """

    def __init__(self, open_call: Callable[[], Any], start: chat_pb2.ConverseStart) -> None:
        self._open_call = open_call
        self._start = start
        self._call: Any = None
        self._updates = 0

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events of the turn; raise a MeshError where it failed."""
        if self._call is not None:
            raise FailedPrecondition("a conversation can be iterated over only once")
        self._call = self._open_call()
        try:
            with contextlib.suppress(FailedPrecondition):  # it failed: reading tells why
                await self._send(start=self._start)
            with rpc.translated():
                async for response in self._call:
                    if (event := wire.event(response)) is not None:
                        yield event
        finally:
            self.close()

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
        await self._send(update=update)
        return self._updates

    async def append(self, text: str, *, is_final: bool) -> None:
        """Bring the user's words so far, where the turn began with `awaiting_input`."""
        await self._send(append=chat_pb2.AppendInput(text=text, is_final=is_final))

    async def credit(self, tokens: int) -> None:
        """Allow `tokens` more, in [1, 65536]."""
        await self._send(credit=common_pb2.Credit(tokens=tokens))

    async def interrupt(self, heard_tokens: int) -> None:
        """End the answer because the user spoke: only `heard_tokens` of it count."""
        await self._send(interrupt=chat_pb2.Interrupt(heard_tokens=heard_tokens))

    async def cancel(self) -> None:
        """End the answer; `End` with finish_reason `cancelled` follows."""
        await self._send(cancel=chat_pb2.CancelConversation())

    def close(self) -> None:
        """Drop the call at once, without waiting for its end."""
        if self._call is not None:
            self._call.cancel()

    async def _send(self, **message: Any) -> None:
        if self._call is None:
            raise FailedPrecondition("the conversation begins when it is iterated over")
        with rpc.translated():
            try:
                await self._call.write(chat_pb2.ConverseRequest(**message))
            except asyncio.InvalidStateError as error:
                raise FailedPrecondition("the conversation is over") from error


class MeshClient:
    """A client of one mesh at `target` (host:port of the gateway's gRPC door).

    `api_key` goes as a bearer token, `tenant` into every request. `timeout` in
    seconds bounds a whole conversation; None: no deadline. `trust` is what the
    gateway's certificate is checked by; None: plaintext.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50050",
        *,
        api_key: str = "",
        tenant: str = "",
        timeout: float | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._channel = rpc.connect_with(target, trust)
        self._chat = chat_pb2_grpc.ChatServiceStub(self._channel)
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._tenant = tenant
        self._timeout = timeout
        self._open: weakref.WeakSet[Conversation] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is open and close the channel."""
        for conversation in list(self._open):
            conversation.close()
        await self._channel.close()

    def converse(
        self, messages: wire.Messages, options: Options | None = None, **more: Any
    ) -> Conversation:
        """Ask for an answer to `messages`: a text, or turns of `role` and `content`.

        `more` are fields of `Options`, e.g. `temperature=0.7`.
        """
        chosen = options or Options(**more)
        start = self._start(wire.chat_messages(messages), chosen)

        def open_call() -> Any:
            return self._chat.Converse(timeout=self._timeout, metadata=self._metadata or None)

        conversation = Conversation(open_call, start)
        self._open.add(conversation)
        return conversation

    async def models(self) -> tuple[Model, ...]:
        """Return what can be asked for, the default first."""
        answer = await self._ask(self._chat.ListModels, chat_pb2.ListModelsRequest())
        return tuple(Model(one.id, one.context_length, one.created_unix_s) for one in answer.models)

    async def feedback(
        self,
        decision_id: str,
        score: float,
        *,
        feedback_id: str = "",
        signal: str = "explicit",
        comment: str = "",
    ) -> FeedbackReceipt:
        """Say how good an answer was: `score` in [-1, 1].

        `feedback_id` makes it count once however often it is sent; one is made
        where it is empty, and returned.
        """
        feedback_id = feedback_id or f"fb-{uuid.uuid4().hex}"
        enum, prefix = feedback_pb2.FeedbackSignal, "FEEDBACK_SIGNAL_"
        request = feedback_pb2.SubmitFeedbackRequest(
            context=common_pb2.RequestContext(tenant=self._tenant),
            feedback_id=feedback_id,
            decision_id=decision_id,
            score=score,
            signal=wire.number(enum, signal, prefix, "signal"),
            comment=comment,
        )
        answer = await self._ask(self._feedback.SubmitFeedback, request)
        return _receipt(feedback_id, answer, duplicate=answer.duplicate)

    async def feedback_state(self, feedback_id: str) -> FeedbackReceipt:
        """Return what became of feedback."""
        request = feedback_pb2.GetFeedbackRequest(feedback_id=feedback_id, tenant=self._tenant)
        answer = await self._ask(self._feedback.GetFeedback, request)
        return _receipt(feedback_id, answer, duplicate=False)

    async def _ask(self, method: Any, request: Any) -> Any:
        call = method(request, timeout=UNARY_SECONDS, metadata=self._metadata or None)
        try:
            with rpc.translated():
                return await call
        finally:
            call.cancel()

    def _start(
        self, messages: list[common_pb2.ChatMessage], chosen: Options
    ) -> chat_pb2.ConverseStart:
        deadline = int((time.time() + self._timeout) * 1000) if self._timeout else 0
        return chat_pb2.ConverseStart(
            context=common_pb2.RequestContext(
                request_id=chosen.request_id,
                session_id=chosen.session_id,
                tenant=self._tenant,
                deadline_unix_ms=deadline,
            ),
            model=chosen.model,
            messages=messages,
            constraints=wire.constraints_message(chosen),
            stop=chosen.stop,
            candidate_count=chosen.candidate_count,
            initial_credit=chosen.initial_credit,
            awaiting_input=chosen.awaiting_input,
        )


def _receipt(feedback_id: str, answer: Any, *, duplicate: bool) -> FeedbackReceipt:
    state = wire.word(feedback_pb2.FeedbackState, answer.state, "FEEDBACK_STATE_")
    return FeedbackReceipt(feedback_id, duplicate, state, answer.applied_version)
