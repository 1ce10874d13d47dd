"""POST /v1/responses: one answer, continued by its id."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from services.gateway.asking import DEFAULT_TENANT, Message, Role
from services.gateway.rest import documents
from services.gateway.rest.choices import Answers
from services.gateway.rest.doors import Doors
from services.gateway.rest.middleware import caller_of
from services.gateway.rest.response_answers import ResponseAnswer
from services.gateway.rest.response_bodies import ROUTE, ResponseBody, response_ask
from services.gateway.rest.streaming import Answering
from thermesh.telemetry import current_traceparent

router = APIRouter(tags=["decoding"])


@router.post(
    ROUTE,
    summary="Answer, and keep the conversation",
    responses=documents.answered(documents.ResponseDocument, documents.EVENT_STREAM),
)
async def create_response(body: ResponseBody, request: Request) -> Response:
    """Answer a text or a conversation; `previous_response_id` continues a kept one."""
    doors: Doors = request.app.state.doors
    caller = caller_of(request)
    named = body.thermesh.tenant if body.thermesh and body.thermesh.tenant else DEFAULT_TENANT
    tenant = caller.tenant_for(named)
    earlier: tuple[Message, ...] = ()
    if body.previous_response_id:
        earlier = await doors.conversations.recall(tenant, body.previous_response_id)
    now = doors.pipeline.clock.unix_ms()
    ask = caller.sign(response_ask(body, earlier, now, current_traceparent()))

    def keep(text: str) -> None:
        if body.store is not False:
            said = (*earlier, *body.turns, Message(Role.ASSISTANT, text))
            doors.conversations.keep(tenant, answer.response_id, said)

    answer = ResponseAnswer(ask, body, now // 1000, keep)
    return Answering(
        doors.pipeline,
        [ask],
        Answers([answer]),
        stream=bool(body.stream),
        ping_seconds=doors.ping_seconds,
    )
