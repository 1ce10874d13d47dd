"""POST /v1/embeddings: texts to vectors, with the mesh's own encoder."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.types import Receive, Scope, Send

from services.gateway.admission.buckets import Quota
from services.gateway.admission.quotas import check, text_tokens
from services.gateway.asking import Context, Embeddings, new_request_id
from services.gateway.callers import Caller
from services.gateway.rest import documents, fields
from services.gateway.rest.bodies import Body
from services.gateway.rest.doors import Doors
from services.gateway.rest.headers import quota_headers
from services.gateway.rest.middleware import caller_of
from services.gateway.rest.problems import error_response
from services.gateway.rest.streaming import unless_gone
from thermesh.errors import MeshError
from thermesh.telemetry import current_traceparent

MOST_TEXTS = 2048
TEXTS_PER_CALL = 256
"""Most texts of one call to the feature service, between which others have their turn."""
Json = dict[str, Any]

router = APIRouter(tags=["embeddings"])


def _texts(value: Any) -> Any:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 1 <= len(texts) <= MOST_TEXTS:
        raise ValueError(f"must be a text or a list of 1 to {MOST_TEXTS} texts")
    if any(isinstance(text, int | list) for text in texts):
        raise ValueError("token ids are not taken, since the encoder has its own; send texts")
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("must be texts that are not empty")
    return texts


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    input: Annotated[
        list[str],
        BeforeValidator(_texts),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "minItems": 1,
                        "maxItems": MOST_TEXTS,
                    },
                ],
            }
        ),
    ]
    model: fields.NonEmptyText | None = Field(default=None, description="absent: the one served")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[None, fields.unsupported("leave it out")] = None
    user: str | None = Field(default=None, description="accepted and not used")


@router.post(
    "/v1/embeddings",
    summary="Embed texts",
    response_model=documents.EmbeddingsDocument,
    responses=documents.ERRORS,
)
async def create_embeddings(body: EmbeddingBody, request: Request) -> Response:
    """Return one vector a text, of length one; of each text the first 256 tokens are read."""
    return Embedding(request.app.state.doors, caller_of(request), body)


class Embedding(Response):
    """The response to one batch; it stops at once when the client is gone."""

    def __init__(self, doors: Doors, caller: Caller, body: EmbeddingBody) -> None:
        super().__init__()
        self._doors = doors
        self._caller = caller
        self._body = body
        self._quota: Quota | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await unless_gone(receive, self._respond(scope, receive, send))

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            found = await self._embed()
        except MeshError as error:
            response = error_response(error)
        else:
            response = JSONResponse(document(found, self._body.encoding_format))
        response.headers.update(quota_headers(self._quota))
        await response(scope, receive, send)

    async def _embed(self) -> Embeddings:
        tenant, allowance = self._caller.tenant_for(""), self._caller.allowance
        turnstile, texts = self._doors.pipeline.turnstile, self._body.input
        with turnstile.admission.entered(tenant, allowance.requests_at_once):
            expected = sum(map(text_tokens, texts))
            self._quota = await turnstile.quotas.take(tenant, allowance, expected)
            check(self._quota)
            used = 0
            try:
                context = Context(
                    new_request_id(), tenant=tenant, traceparent=current_traceparent()
                )
                found = await self._vectors(context)
                used = found.token_count
            finally:
                turnstile.quotas.settle(tenant, allowance, expected, used)
        return found

    async def _vectors(self, context: Context) -> Embeddings:
        texts, model = self._body.input, self._body.model or ""
        found = [
            await self._doors.encoder.embed(context, model, texts[begin : begin + TEXTS_PER_CALL])
            for begin in range(0, len(texts), TEXTS_PER_CALL)
        ]
        return replace(
            found[0],
            vectors=tuple(vector for part in found for vector in part.vectors),
            token_count=sum(part.token_count for part in found),
        )


def document(found: Embeddings, encoding_format: str) -> Json:
    """Return OpenAI's list of embeddings."""
    return {
        "object": "list",
        "model": found.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding_format)}
            for index, vector in enumerate(found.vectors)
        ],
        "usage": {"prompt_tokens": found.token_count, "total_tokens": found.token_count},
    }


def _encoded(vector: bytes, encoding_format: str) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector).decode()
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
