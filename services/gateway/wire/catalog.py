"""Feedback, models and policies on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.gateway.asking import DEFAULT_TENANT, Context
from services.gateway.decoding import Mode
from services.gateway.feedback import (
    Capabilities,
    Feedback,
    FeedbackState,
    ModelCard,
    PolicyCard,
    PolicyList,
    Receipt,
    Signal,
)
from services.gateway.wire.requests import context_to_wire
from services.gateway.wire.sampling import enum_member, enum_value
from thermesh.v1 import chat_pb2, common_pb2, controller_pb2, feedback_pb2, inference_pb2


def feedback(message: feedback_pb2.SubmitFeedbackRequest) -> Feedback:
    """Read feedback as a native client sends it."""
    names = feedback_pb2.FeedbackSignal
    signal = enum_member(Signal, names, message.signal, "FEEDBACK_SIGNAL")
    return Feedback(
        feedback_id=message.feedback_id,
        decision_id=message.decision_id,
        score=message.score,
        tenant=message.context.tenant or DEFAULT_TENANT,
        signal=signal or Signal.EXPLICIT,
        comment=message.comment,
    )


def feedback_to_wire(value: Feedback, request_id: str) -> feedback_pb2.SubmitFeedbackRequest:
    """Write feedback for the controller."""
    return feedback_pb2.SubmitFeedbackRequest(
        context=context_to_wire(Context(request_id=request_id, tenant=value.tenant)),
        feedback_id=value.feedback_id,
        decision_id=value.decision_id,
        score=value.score,
        signal=enum_value(feedback_pb2.FeedbackSignal, value.signal, "FEEDBACK_SIGNAL"),
        comment=value.comment,
    )


def receipt(
    message: feedback_pb2.SubmitFeedbackResponse | feedback_pb2.GetFeedbackResponse,
) -> Receipt:
    """Read what became of feedback."""
    names = feedback_pb2.FeedbackState
    state = enum_member(FeedbackState, names, message.state, "FEEDBACK_STATE")
    return Receipt(
        state=state or FeedbackState.PENDING,
        applied_version=message.applied_version,
        duplicate=bool(getattr(message, "duplicate", False)),
    )


def submitted_to_wire(value: Receipt) -> feedback_pb2.SubmitFeedbackResponse:
    """Write the answer to SubmitFeedback."""
    return feedback_pb2.SubmitFeedbackResponse(
        duplicate=value.duplicate,
        state=enum_value(feedback_pb2.FeedbackState, value.state, "FEEDBACK_STATE"),
        applied_version=value.applied_version,
    )


def found_to_wire(value: Receipt) -> feedback_pb2.GetFeedbackResponse:
    """Write the answer to GetFeedback."""
    return feedback_pb2.GetFeedbackResponse(
        state=enum_value(feedback_pb2.FeedbackState, value.state, "FEEDBACK_STATE"),
        applied_version=value.applied_version,
    )


def model_card(message: inference_pb2.DescribeModelResponse) -> ModelCard:
    """Read what an engine serves."""
    told = message.capabilities if message.HasField("capabilities") else None
    return ModelCard(
        message.model,
        message.context_length,
        message.created_unix_s,
        capabilities(told) if told is not None else None,
        message.max_running,
        message.max_waiting,
    )


def capabilities(message: common_pb2.Capabilities) -> Capabilities:
    """Read what an engine can do; members that this contract does not know are left out."""
    return Capabilities(
        programs=_names(common_pb2.ProgramKind, message.programs),
        guards=_names(common_pb2.GuardMember, message.guards),
        compute_paths=_names(common_pb2.ComputePath, message.compute_paths),
        can_update=message.can_update,
        tells_entropy=message.tells_entropy,
    )


def capabilities_to_wire(value: Capabilities) -> common_pb2.Capabilities:
    """Write what an engine can do."""
    return common_pb2.Capabilities(
        programs=value.programs,
        guards=value.guards,
        compute_paths=value.compute_paths,
        can_update=value.can_update,
        tells_entropy=value.tells_entropy,
    )


def _names(enum: Any, numbers: Iterable[int]) -> tuple[str, ...]:
    return tuple(enum.Name(number) for number in numbers if number in enum.values())


def models_to_wire(cards: list[ModelCard]) -> chat_pb2.ListModelsResponse:
    """Write the models that can be asked for."""
    return chat_pb2.ListModelsResponse(
        models=[
            chat_pb2.Model(
                id=card.id,
                context_length=card.context_length,
                created_unix_s=card.created_unix_s,
            )
            for card in cards
        ]
    )


def policy_list(message: controller_pb2.ListPoliciesResponse) -> PolicyList:
    """Read the stored policies."""
    return PolicyList(tuple(map(policy_card, message.policies)), modes(message.modes))


def modes(message: Mapping[str, int]) -> dict[str, Mode]:
    """Read modes by route; those that this contract does not know are left out."""
    return {
        route: mode
        for route, value in message.items()
        if (mode := enum_member(Mode, common_pb2.Mode, value, "MODE"))
    }


def policy_card(message: controller_pb2.PolicySummary) -> PolicyCard:
    """Read one stored version."""
    return PolicyCard(
        version=message.version,
        kind=message.kind,
        created_unix_ms=message.created_unix_ms,
        reason=message.reason,
        parent_version=message.parent_version,
        feedback_count=message.feedback_count,
        live=message.live,
    )
