"""Answers on their way to a client that may leave at any moment.

`Answering` is one ASGI response for both kinds of answer. It runs the turn and
watches the connection side by side: the moment the client is gone the turn is
closed, and with it the call to inference. Errors before the first byte become a
status; later ones an `error` event, after which the stream ends without [DONE].
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from services.gateway.asking import Ask
from services.gateway.decoding import Plan
from services.gateway.events import Accepted, Ended, Event, Tokens
from services.gateway.pipeline import Pipeline, Turn
from services.gateway.rest.answers import Answer
from services.gateway.rest.problems import error_body, error_response
from thermesh.errors import MeshError

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    # Proxies must neither store, compress nor collect the stream.
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class Answering(Response):
    """The response to one ask."""

    def __init__(
        self,
        pipeline: Pipeline,
        ask: Ask,
        answer: Answer,
        *,
        stream: bool,
        ping_seconds: float,
    ) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._ask = ask
        self._answer = answer
        self._stream = stream
        self._ping_seconds = ping_seconds
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or stop at once when the client is gone."""
        await unless_gone(receive, self._respond(scope, receive, send))

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._pipeline.open(self._ask) as turn:
                if self._stream:
                    await self._write_stream(turn, send)
                    return
                async for event in turn.events():
                    self._answer.observe(event)
        except MeshError as error:
            await self._fail(error, scope, receive, send)
            return
        whole = JSONResponse(self._answer.whole(), headers=self._told())
        await whole(scope, receive, send)

    async def _write_stream(self, turn: Turn, send: Send) -> None:
        early = await self._until_accepted(turn)
        await self._start(send)
        for event in early:
            await self._write(event, send)
        if not early or not isinstance(early[-1], Ended):
            await self._write_until_end(turn, send)
        await _send(send, DONE, more=False)

    async def _write_until_end(self, turn: Turn, send: Send) -> None:
        while True:
            event = await turn.next(self._ping_seconds)
            if event is None:
                await _send(send, PING)
                continue
            await self._write(event, send)
            if isinstance(event, Ended):
                return

    async def _until_accepted(self, turn: Turn) -> list[Event]:
        """Collect events until inference speaks, so that a refusal still gets its status."""
        early: list[Event] = []
        while not early or not isinstance(early[-1], Accepted | Tokens | Ended):
            event = await turn.next(self._ping_seconds)
            if event is None:
                break
            early.append(event)
        return early

    async def _write(self, event: Event, send: Send) -> None:
        chunks = self._answer.chunks(event)
        if chunks:
            await _send(send, b"".join(map(event_bytes, chunks)))

    async def _start(self, send: Send) -> None:
        headers = SSE_HEADERS | self._told()
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        self._is_started = True
        # The first bytes tell proxies that this stream lives, before any token.
        await _send(send, PING)

    async def _fail(
        self,
        error: MeshError,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if self._is_started:
            await _send(send, event_bytes(error_body(error)), more=False)
            return
        response = error_response(error)
        response.headers["X-Request-Id"] = self._ask.context.request_id
        await response(scope, receive, send)

    def _told(self) -> dict[str, str]:
        headers = {"X-Request-Id": self._ask.context.request_id}
        return headers | plan_headers(self._answer.plan)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or cancel it at once when the client closes the connection."""
    working = asyncio.create_task(work, name="answer")
    leaving = asyncio.create_task(_gone(receive), name="watch-client")
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def event_bytes(chunk: dict[str, Any]) -> bytes:
    """Return one SSE event."""
    return (
        b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
    )


def plan_headers(plan: Plan | None) -> dict[str, str]:
    """Return the plan as headers, for clients that hide unknown members."""
    if plan is None:
        return {}
    return {
        "X-Thermesh-Decision-Id": plan.decision_id,
        "X-Thermesh-Policy-Version": str(plan.policy_version),
        "X-Thermesh-Plan-Source": plan.source.value,
        "X-Thermesh-Temperature": f"{plan.temperature:.6g}",
    }


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
