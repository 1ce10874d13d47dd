"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.gateway.asking import Ask
from services.gateway.rest import asks, documents
from services.gateway.rest.answers import Answer, ChatAnswer, CompletionAnswer, Shape
from services.gateway.rest.bodies import ChatBody, CompletionBody, Decoding, Extension
from services.gateway.rest.choices import Answers, several
from services.gateway.rest.doors import Doors
from services.gateway.rest.middleware import caller_of
from services.gateway.rest.streaming import Answering
from services.gateway.rest.tool_answers import ToolAnswer
from thermesh.telemetry import current_traceparent

router = APIRouter(tags=["decoding"])


@router.post(
    asks.CHAT_ROUTE,
    summary="Continue a conversation",
    responses=documents.answered(documents.ChatCompletion, documents.EVENT_STREAM),
)
async def create_chat_completion(body: ChatBody, request: Request) -> Response:
    """Answer a conversation, as one JSON body or streamed (`stream: true`).

    `temperature` absent, null or `"auto"` lets the policy decide; a number pins it.
    """
    doors: Doors = request.app.state.doors
    asked = asks.chat_ask(body, doors.pipeline.clock.unix_ms(), current_traceparent())
    signed = [caller_of(request).sign(asked)]
    shape = _shape(body, logprobs=bool(body.logprobs))
    kind = ChatAnswer if body.tool_use is None else ToolAnswer
    return _answering(doors, signed, kind, shape, body)


@router.post(
    asks.COMPLETION_ROUTE,
    summary="Continue a text",
    responses=documents.answered(documents.TextCompletion, documents.EVENT_STREAM),
)
async def create_completion(body: CompletionBody, request: Request) -> Response:
    """Continue prompts without a chat template; token ids are taken as they are."""
    doors: Doors = request.app.state.doors
    asked = asks.completion_asks(body, doors.pipeline.clock.unix_ms(), current_traceparent())
    signed = [caller_of(request).sign(ask) for ask in asked]
    shape = _shape(body, logprobs=body.logprobs is not None)
    return _answering(doors, signed, CompletionAnswer, shape, body)


def _answering(
    doors: Doors, asked: Sequence[Ask], kind: type[Answer], shape: Shape, body: Decoding
) -> Answering:
    wanted = several(asked, body.n or 1)
    now = doors.pipeline.clock.unix_ms() // 1000
    answers = [kind(one, shape, now, number) for number, one in enumerate(wanted)]
    return Answering(
        doors.pipeline,
        wanted,
        Answers(answers, answers[0].usage_chunk if shape.usage else None, body.n or 1),
        stream=bool(body.stream),
        ping_seconds=doors.ping_seconds,
    )


def _shape(body: Decoding, *, logprobs: bool) -> Shape:
    extension = body.thermesh or Extension()
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return Shape(telemetry=extension.telemetry, logprobs=logprobs, usage=usage)
