"""The feature service's messages, to and from the room's own values.

Checks of single fields stand here, where the field's path is known.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import AsyncIterator

from services.feature.embed import MOST_TEXTS, Batch, Embedded
from services.feature.extract import Reading, Vector, check_text
from services.feature.reader import Answer, Update
from thermesh import features
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.v1 import feature_pb2

_NAME = re.compile(r"[A-Za-z0-9._-]{0,64}")


def reading(request: feature_pb2.ExtractRequest) -> Reading:
    """Return the request as a reading; raise InvalidArgument where a field is bad."""
    check_text(request.text, "text")
    return _reading(request)


def extract_response(answer: Answer) -> feature_pb2.ExtractResponse:
    """Return the answer to Extract."""
    return feature_pb2.ExtractResponse(features=vector(answer.vector), cached=answer.cached)


async def updates(
    messages: AsyncIterator[feature_pb2.ExtractStreamRequest],
) -> AsyncIterator[Update]:
    """Yield the texts of a stream; raise where its messages come in a wrong order.

    A `start` with a text is the first partial.
    """
    opening: Reading | None = None
    is_over = False
    async for message in messages:
        if is_over:
            raise FailedPrecondition("nothing may follow the final partial", field="partial")
        if opening is None:
            opening = _opening(message)
            if opening.text:
                yield Update(opening, is_final=False)
        else:
            update = _update(opening, message)
            is_over = update.is_final
            yield update


def stream_response(answer: Answer, is_final: bool) -> feature_pb2.ExtractStreamResponse:
    """Return one answer of ExtractStream."""
    return feature_pb2.ExtractStreamResponse(features=vector(answer.vector), is_final=is_final)


def vector(value: Vector) -> feature_pb2.FeatureVector:
    """Return the vector as a message; an abstention leaves the task unspecified."""
    return feature_pb2.FeatureVector(
        schema_version=features.SCHEMA_VERSION,
        values=value.values,
        task=f"TASK_{value.task.upper()}" if value.task else None,
        task_confidence=value.task_confidence,
        encoder_used=value.encoder_used,
    )


def batch(request: feature_pb2.EmbedRequest) -> Batch:
    """Return the texts to embed; raise InvalidArgument where a field is bad."""
    _check_name(request.context.tenant, "context.tenant")
    if not 1 <= len(request.texts) <= MOST_TEXTS:
        raise InvalidArgument(f"texts must have 1 to {MOST_TEXTS} members", field="texts")
    for index, text in enumerate(request.texts):
        check_text(text, f"texts[{index}]")
    return Batch(request.context.tenant or "default", request.model, tuple(request.texts))


def embedded(value: Embedded) -> feature_pb2.EmbedResponse:
    """Return the answer to Embed."""
    return feature_pb2.EmbedResponse(
        model=value.model,
        embeddings=[feature_pb2.Embedding(values=one.tolist()) for one in value.embeddings],
        token_count=value.token_count,
    )


def schema() -> feature_pb2.DescribeFeaturesResponse:
    """Return the definitions of the vector."""
    definitions = [
        feature_pb2.FeatureDefinition(**dataclasses.asdict(feature))
        for feature in features.FEATURES
    ]
    return feature_pb2.DescribeFeaturesResponse(
        schema_version=features.SCHEMA_VERSION, features=definitions
    )


def _opening(message: feature_pb2.ExtractStreamRequest) -> Reading:
    if message.WhichOneof("message") != "start":
        raise FailedPrecondition("the first message must be start", field="start")
    if message.start.text:
        check_text(message.start.text, "start.text")
    return _reading(message.start, "start.")


def _update(opening: Reading, message: feature_pb2.ExtractStreamRequest) -> Update:
    if message.WhichOneof("message") != "partial":
        raise FailedPrecondition("after start every message must be partial", field="partial")
    partial = message.partial
    check_text(partial.text, "partial.text")
    read = dataclasses.replace(
        opening,
        text=partial.text,
        waited_seconds=partial.waited_ms / 1000,
        speech_seconds=_speech_seconds(partial, "partial.") or opening.speech_seconds,
    )
    return Update(read, partial.is_final)


def _reading(request: feature_pb2.ExtractRequest, path: str = "") -> Reading:
    context = request.context
    _check_name(context.session_id, f"{path}context.session_id")
    _check_name(context.tenant, f"{path}context.tenant")
    if context.deadline_unix_ms < 0:
        field = f"{path}context.deadline_unix_ms"
        raise InvalidArgument(f"{field} must be 0 or a time after 1970", field=field)
    return Reading(
        text=request.text,
        tenant=context.tenant or "default",
        session_id=context.session_id,
        turn_count=request.turn_count or 1,
        waited_seconds=request.waited_ms / 1000,
        deadline_unix_ms=context.deadline_unix_ms,
        speech_seconds=_speech_seconds(request, path),
        encoder_wait_seconds=(
            request.encoder_wait_us / 1e6 if request.HasField("encoder_wait_us") else None
        ),
    )


def _speech_seconds(
    spoken: feature_pb2.ExtractRequest | feature_pb2.PartialText, path: str
) -> float | None:
    """Return the length of the speech; None where the text was typed."""
    if not spoken.HasField("voice"):
        return None
    confidence = spoken.voice.recognition_confidence
    if not (math.isfinite(confidence) and 0.0 <= confidence <= 1.0):
        field = f"{path}voice.recognition_confidence"
        raise InvalidArgument(f"{field} must be in [0, 1]", field=field)
    return float(spoken.voice.speech_duration_ms / 1000)


def _check_name(name: str, field: str) -> None:
    if not _NAME.fullmatch(name):
        message = f"{field} must be at most 64 characters of letters, digits, '.', '_' and '-'"
        raise InvalidArgument(message, field=field)
