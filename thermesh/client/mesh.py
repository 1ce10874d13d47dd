"""The asyncio client: unary calls, and the start of conversations."""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from thermesh import rpc, wire
from thermesh.client.conversation import Conversation
from thermesh.client.patience import Patience
from thermesh.errors import MeshError
from thermesh.events import FeedbackReceipt, Model, Options
from thermesh.tls import Trust
from thermesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    feedback_pb2,
    feedback_pb2_grpc,
)

UNARY_SECONDS = 10.0

RESUME_GRACE_MS = 10_000
"""What a resumable conversation asks for; the gateway may grant less."""


class MeshClient:
    """A client of one mesh at `target` (host:port of the gateway's gRPC door).

    `api_key` goes as a bearer token, `tenant` into every request. `timeout` in
    seconds bounds a whole conversation; None: no deadline. `trust` is what the
    gateway's certificate is checked by; None: plaintext. `retries` is how often
    what failed before its first event is tried again while the mesh is away or
    full; 0: never. Feedback counts once however often it is sent.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50050",
        *,
        api_key: str = "",
        tenant: str = "",
        timeout: float | None = None,
        trust: Trust | None = None,
        retries: int = 2,
    ) -> None:
        self._channel = rpc.connect_with(target, trust)
        self._chat = chat_pb2_grpc.ChatServiceStub(self._channel)
        self._feedback = feedback_pb2_grpc.FeedbackServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._tenant = tenant
        self._timeout = timeout
        self._patience = Patience(retries)
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

        `more` are fields of `Options`, e.g. `temperature=0.7`, `resumable=True`.
        """
        chosen = replace(options or Options(), **more)
        start = self._start(wire.chat_messages(messages), chosen)
        ends_at = None if self._timeout is None else time.monotonic() + self._timeout

        def open_call() -> Any:
            left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
            return self._chat.Converse(timeout=left, metadata=self._metadata or None)

        conversation = Conversation(open_call, start, self._patience)
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
        failures = 0
        while True:
            try:
                return await self._ask_once(method, request)
            except MeshError as error:
                failures += 1
                if not self._patience.allows(error, failures):
                    raise
                await asyncio.sleep(self._patience.wait(error, failures))

    async def _ask_once(self, method: Any, request: Any) -> Any:
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
                request_id=_request_id(chosen),
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
            resume_grace_ms=RESUME_GRACE_MS if chosen.resumable else 0,
        )


def _request_id(chosen: Options) -> str:
    """A turn that is to be resumed needs a name before the server gives it one."""
    return chosen.request_id or (f"req-{uuid.uuid4().hex}" if chosen.resumable else "")


def _receipt(feedback_id: str, answer: Any, *, duplicate: bool) -> FeedbackReceipt:
    state = wire.word(feedback_pb2.FeedbackState, answer.state, "FEEDBACK_STATE_")
    return FeedbackReceipt(feedback_id, duplicate, state, answer.applied_version)
