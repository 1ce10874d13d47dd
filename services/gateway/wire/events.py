"""What happens to a request, as inference tells it and as the native door repeats it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from services.gateway.decoding import FinishReason, UpdateSource
from services.gateway.events import (
    Accepted,
    Applied,
    Ended,
    Event,
    Rejected,
    Tokens,
    Usage,
)
from services.gateway.wire.sampling import enum_member, enum_value, sampling, sampling_to_wire
from thermesh.v1 import common_pb2, inference_pb2


def event(message: inference_pb2.GenerateResponse) -> Event | None:
    """Read one message of Generate; None for a kind that this contract does not know."""
    kind = message.WhichOneof("message")
    if kind == "tokens":
        return Tokens(tuple(message.tokens.tokens))
    if kind == "accepted":
        return Accepted(message.accepted.model, message.accepted.prompt_tokens)
    if kind == "applied":
        return _applied(message.applied)
    if kind == "rejected":
        rejected = message.rejected
        return Rejected(rejected.update_id, rejected.field, rejected.message)
    if kind == "end":
        return _ended(message.end)
    return None


def write_tokens(value: Tokens, chunk: common_pb2.TokenChunk) -> None:
    """Write tokens into `chunk`: they are the messages that inference sent."""
    chunk.tokens.extend(cast("Iterable[common_pb2.Token]", value.tokens))


def applied_to_wire(value: Applied) -> common_pb2.ParametersApplied:
    """Write an acknowledgement."""
    return common_pb2.ParametersApplied(
        revision=value.revision,
        token_index=value.token_index,
        source=enum_value(common_pb2.UpdateSource, value.source, "UPDATE_SOURCE"),
        update_id=value.update_id,
        sampling=sampling_to_wire(value.sampling) if value.sampling else None,
    )


def rejected_to_wire(value: Rejected) -> common_pb2.UpdateRejected:
    """Write a refusal."""
    return common_pb2.UpdateRejected(
        update_id=value.update_id,
        field=value.field,
        message=value.message,
    )


def ended_to_wire(value: Ended) -> common_pb2.GenerationEnd:
    """Write how decoding ended."""
    usage = value.usage
    return common_pb2.GenerationEnd(
        finish_reason=enum_value(common_pb2.FinishReason, value.finish_reason, "FINISH_REASON"),
        usage=common_pb2.Usage(
            prompt_tokens=usage.prompt_tokens,
            cached_prompt_tokens=usage.cached_prompt_tokens,
            completion_tokens=usage.completion_tokens,
            queue_time_us=usage.queue_time_us,
            prefill_time_us=usage.prefill_time_us,
            decode_time_us=usage.decode_time_us,
        ),
        mean_temperature=value.mean_temperature,
        mean_entropy=value.mean_entropy,
        discarded_tokens=value.discarded_tokens,
    )


def _applied(message: common_pb2.ParametersApplied) -> Applied:
    names = common_pb2.UpdateSource
    has_program = message.sampling.program.WhichOneof("kind") is not None
    return Applied(
        revision=message.revision,
        token_index=message.token_index,
        source=enum_member(UpdateSource, names, message.source, "UPDATE_SOURCE"),
        update_id=message.update_id,
        sampling=sampling(message.sampling) if has_program else None,
    )


def _ended(message: common_pb2.GenerationEnd) -> Ended:
    names = common_pb2.FinishReason
    reason = enum_member(FinishReason, names, message.finish_reason, "FINISH_REASON")
    usage = message.usage
    return Ended(
        finish_reason=reason or FinishReason.STOP,
        usage=Usage(
            prompt_tokens=usage.prompt_tokens,
            cached_prompt_tokens=usage.cached_prompt_tokens,
            completion_tokens=usage.completion_tokens,
            queue_time_us=usage.queue_time_us,
            prefill_time_us=usage.prefill_time_us,
            decode_time_us=usage.decode_time_us,
        ),
        mean_temperature=message.mean_temperature,
        mean_entropy=message.mean_entropy,
        discarded_tokens=message.discarded_tokens,
    )
