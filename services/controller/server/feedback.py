"""The gRPC shell of the feedback door."""

from __future__ import annotations

from typing import Any

from services.controller import wire
from services.controller.room import Room
from thermesh.errors import ResourceExhausted
from thermesh.telemetry import current_traceparent
from thermesh.v1 import feedback_pb2, feedback_pb2_grpc

FULL_NAME = "thermesh.v1.FeedbackService"
ADD = feedback_pb2_grpc.add_FeedbackServiceServicer_to_server


class FeedbackService(feedback_pb2_grpc.FeedbackServiceServicer):
    """Takes what users say of answers; see the contract for each method."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def SubmitFeedback(
        self, request: feedback_pb2.SubmitFeedbackRequest, _: Any
    ) -> feedback_pb2.SubmitFeedbackResponse:
        """Store feedback once and wake the learner."""
        feedback = wire.feedback(request)
        await self._room.recorder.settle(feedback.decision_id)
        try:
            submission = await self._room.store.submit(feedback)
        except ResourceExhausted:
            self._room.metrics.refused_feedback()
            raise
        self._room.metrics.took_feedback(submission.duplicate)
        if submission.hint_wanted:
            self._room.hints.want(current_traceparent())
        return feedback_pb2.SubmitFeedbackResponse(
            duplicate=submission.duplicate,
            state=wire.state(submission.applied_version),
            applied_version=submission.applied_version,
        )

    async def GetFeedback(
        self, request: feedback_pb2.GetFeedbackRequest, _: Any
    ) -> feedback_pb2.GetFeedbackResponse:
        """Tell what became of feedback."""
        tenant, feedback_id = wire.feedback_name(request)
        applied = await self._room.store.applied_version(tenant, feedback_id)
        return feedback_pb2.GetFeedbackResponse(state=wire.state(applied), applied_version=applied)
