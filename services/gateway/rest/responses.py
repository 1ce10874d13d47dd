"""/v1/responses: answers that are kept, read and told again, continued and deleted by their id."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from services.gateway.asking import DEFAULT_TENANT
from services.gateway.kept import Kept
from services.gateway.rest import documents
from services.gateway.rest import response_documents as shown
from services.gateway.rest.choices import Answers
from services.gateway.rest.doors import Doors
from services.gateway.rest.middleware import caller_of
from services.gateway.rest.response_answers import ResponseAnswer
from services.gateway.rest.response_bodies import (
    ID_PATTERN,
    ROUTE,
    Listing,
    Reading,
    ResponseBody,
    Whose,
    response_ask,
)
from services.gateway.rest.response_events import again
from services.gateway.rest.sse import DONE, event_bytes
from services.gateway.rest.streaming import SSE_HEADERS, Answering
from thermesh.errors import InvalidArgument, NotFound
from thermesh.telemetry import current_traceparent

router = APIRouter(tags=["decoding"])

ONE = ROUTE + "/{response_id}"
Json = dict[str, Any]


@router.post(
    ROUTE,
    summary="Answer, and keep the conversation",
    responses=documents.answered(shown.ResponseDocument, documents.EVENT_STREAM),
)
async def create_response(body: ResponseBody, request: Request) -> Response:
    """Answer a text or a conversation; `previous_response_id` continues a kept one."""
    doors: Doors = request.app.state.doors
    named = body.thermesh.tenant if body.thermesh and body.thermesh.tenant else DEFAULT_TENANT
    tenant = caller_of(request).tenant_for(named)
    items = body.items(uuid4().hex)
    if earlier := body.previous_response_id:
        kept = await doors.kept.recall(tenant, earlier, "previous_response_id")
        items = [*kept.said, *items]
    now = doors.pipeline.clock.unix_ms()
    ask = caller_of(request).sign(response_ask(body, items, now, current_traceparent()))
    keep: Callable[[Kept], bool] | None = partial(doors.kept.keep, tenant)
    answer = ResponseAnswer(
        ask, body, items, now // 1000, keep if body.store is not False else None
    )
    return Answering(
        doors.pipeline,
        [ask],
        Answers([answer]),
        stream=bool(body.stream),
        ping_seconds=doors.ping_seconds,
    )


@router.get(
    ONE,
    summary="Read a response, or hear it again",
    responses=documents.answered(shown.ResponseDocument, documents.EVENT_STREAM),
)
async def get_response(
    response_id: str, request: Request, asked: Annotated[Reading, Query()]
) -> Response:
    """Return a kept response; with `stream` its events, those after `starting_after`."""
    if asked.starting_after is not None and not asked.stream:
        raise InvalidArgument("starting_after needs stream=true", field="starting_after")
    kept = await _recall(response_id, request, asked.tenant)
    if not asked.stream:
        return JSONResponse(kept.response)
    after = -1 if asked.starting_after is None else asked.starting_after
    told = [event_bytes(each) for each in again(kept) if each["sequence_number"] > after]
    return Response(b"".join((*told, DONE)), headers=SSE_HEADERS)


@router.delete(ONE, summary="Delete a response", responses=documents.ERRORS)
async def delete_response(
    response_id: str, request: Request, asked: Annotated[Whose, Query()]
) -> shown.DeletedDocument:
    """Forget a kept response; those that continue it have what was said in themselves."""
    doors: Doors = request.app.state.doors
    tenant = caller_of(request).tenant_for(asked.tenant, "tenant")
    await doors.kept.forget(tenant, _checked(response_id))
    return shown.DeletedDocument(id=response_id, object="response", deleted=True)


@router.post(ONE + "/cancel", summary="Refused: nothing runs here", responses=documents.ERRORS)
async def cancel_response(
    response_id: str, request: Request, asked: Annotated[Whose, Query()]
) -> None:
    """Refuse: only answers in the background could be cancelled, others end with their request."""
    await _recall(response_id, request, asked.tenant)
    message = "only a response with background: true could be cancelled; close its stream instead"
    raise InvalidArgument(message, field="background", reason="NOT_IN_BACKGROUND")


@router.get(ONE + "/input_items", summary="List what it answers", responses=documents.ERRORS)
async def list_input_items(
    response_id: str, request: Request, asked: Annotated[Listing, Query()]
) -> shown.ItemsDocument:
    """List the items that a response answers, earlier turns included, the newest first."""
    items = list((await _recall(response_id, request, asked.tenant)).items)
    if asked.order == "desc":
        items.reverse()
    names = [item["id"] for item in items]
    if asked.after is not None and asked.after not in names:
        raise InvalidArgument("after must be the id of an item of this response", field="after")
    first = 0 if asked.after is None else names.index(asked.after) + 1
    page = items[first : first + asked.limit]
    return shown.ItemsDocument(
        object="list",
        data=page,  # type: ignore[arg-type]  # JSON of the documents' own shape
        first_id=page[0]["id"] if page else None,
        last_id=page[-1]["id"] if page else None,
        has_more=first + asked.limit < len(items),
    )


async def _recall(response_id: str, request: Request, tenant: str) -> Kept:
    doors: Doors = request.app.state.doors
    tenant = caller_of(request).tenant_for(tenant, "tenant")
    return await doors.kept.recall(tenant, _checked(response_id), "response_id")


def _checked(response_id: str) -> str:
    if not re.fullmatch(ID_PATTERN, response_id):
        message = "there is no such response"
        raise NotFound(message, field="response_id", reason="RESPONSE_NOT_FOUND")
    return response_id
