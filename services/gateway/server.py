"""The native gRPC door: shells around the pipeline and the controller's feedback service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from services.gateway import limits
from services.gateway.callers import Caller
from services.gateway.conversations.talks import Talks
from services.gateway.gate import Gate
from services.gateway.mesh.controller import ControllerClient
from services.gateway.mesh.inference import InferenceClient
from services.gateway.wire import catalog, chat
from thermesh.clock import Clock
from thermesh.rpc import Server, remaining_seconds
from thermesh.telemetry import current_traceparent
from thermesh.v1 import chat_pb2, chat_pb2_grpc, feedback_pb2, feedback_pb2_grpc


class ChatService(chat_pb2_grpc.ChatServiceServicer):
    """Talks with one user; see chat.proto for who speaks when."""

    def __init__(
        self,
        talks: Talks,
        inference: InferenceClient,
        gate: Gate,
        clock: Clock,
    ) -> None:
        self._talks = talks
        self._inference = inference
        self._gate = gate
        self._clock = clock

    async def Converse(  # named by the contract
        self,
        request_iterator: AsyncIterator[chat_pb2.ConverseRequest],
        context: Any,
    ) -> AsyncIterator[chat_pb2.ConverseResponse]:
        """Decode one answer, or go on with one."""
        caller = await _caller(self._gate, context)
        said = chat.said(request_iterator, self._deadline_unix_ms(), current_traceparent())
        async with contextlib.aclosing(self._talks.events(said, caller)) as events:  # type: ignore[type-var]
            async for one in events:
                yield chat.response(one.event, one.request_id, one.number, one.text)

    async def ListModels(  # named by the contract
        self,
        request: chat_pb2.ListModelsRequest,  # noqa: ARG002  # it has no members
        context: Any,
    ) -> chat_pb2.ListModelsResponse:
        """List what can be asked for."""
        await _caller(self._gate, context)
        return catalog.models_to_wire(await self._inference.models())

    def _deadline_unix_ms(self) -> int:
        remaining = remaining_seconds()
        if remaining is None:
            return 0
        return self._clock.unix_ms() + int(remaining * 1000)


class FeedbackService(feedback_pb2_grpc.FeedbackServiceServicer):
    """Takes what users say of answers and hands it to the controller."""

    def __init__(self, controller: ControllerClient, gate: Gate) -> None:
        self._controller = controller
        self._gate = gate

    async def SubmitFeedback(  # named by the contract
        self,
        request: feedback_pb2.SubmitFeedbackRequest,
        context: Any,
    ) -> feedback_pb2.SubmitFeedbackResponse:
        """Store one piece of feedback."""
        caller = await _caller(self._gate, context)
        feedback = caller.sign_feedback(catalog.feedback(request))
        limits.check_feedback(feedback)
        return catalog.submitted_to_wire(await self._controller.submit_feedback(feedback))

    async def GetFeedback(  # named by the contract
        self,
        request: feedback_pb2.GetFeedbackRequest,
        context: Any,
    ) -> feedback_pb2.GetFeedbackResponse:
        """Tell what became of one piece of feedback."""
        caller = await _caller(self._gate, context)
        tenant = caller.tenant_for(request.tenant, "tenant")
        limits.check_feedback_id(request.feedback_id)
        return catalog.found_to_wire(
            await self._controller.get_feedback(request.feedback_id, tenant)
        )


def add_services(server: Server, chat: ChatService, feedback: FeedbackService) -> None:
    """Serve both services on `server`."""
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, chat, "thermesh.v1.ChatService")
    server.add(
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server,
        feedback,
        "thermesh.v1.FeedbackService",
    )


async def _caller(gate: Gate, context: Any) -> Caller:
    metadata = dict(context.invocation_metadata() or ())
    return await gate.admit(metadata.get("authorization"))
