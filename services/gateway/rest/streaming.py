"""Answers on their way to a client that may leave at any moment.

`Answering` is one ASGI response for both kinds of answer. It runs the turn and
watches the connection side by side: the moment the client is gone the turn is
closed, and with it the call to inference. Errors before the first byte become a
status; later ones an `error` event, after which the stream ends without [DONE].
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from services.gateway.asking import Ask
from services.gateway.backlog import MOST_EVENTS
from services.gateway.events import Accepted, Ended, Event, Tokens
from services.gateway.pipeline import Pipeline
from services.gateway.rest.choices import Answers, Choices, Numbered
from services.gateway.rest.headers import plan_headers, quota_headers
from services.gateway.rest.problems import error_response
from services.gateway.rest.sse import DONE, PING, event_bytes
from thermesh.errors import MeshError

SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    # Proxies must neither store, compress nor collect the stream.
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}


class Answering(Response):
    """The response to one request, however many answers it wants."""

    def __init__(
        self,
        pipeline: Pipeline,
        asks: Sequence[Ask],
        answers: Answers,
        *,
        stream: bool,
        ping_seconds: float,
    ) -> None:
        super().__init__()
        self._request_id = asks[0].context.request_id
        self._choices = Choices(pipeline, asks)
        self._answers = answers
        self._stream = stream
        self._ping_seconds = ping_seconds
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or stop at once when the client is gone.

        Who is refused is told so in this very step of the loop: the watch over the connection,
        which takes tasks and with them turns of a busy loop, begins behind the turnstile.
        """
        try:
            async with self._choices:
                await unless_gone(receive, self._respond(scope, receive, send))
        except MeshError as error:
            await self._fail(error, scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._stream:
            await self._write_stream(send)
            return
        while not self._answers.is_over:
            if found := await self._choices.next():
                self._answers.observe(*found)
        whole = JSONResponse(self._answers.whole(), headers=self._told())
        await whole(scope, receive, send)

    async def _write_stream(self, send: Send) -> None:
        early = await self._until_accepted()
        await self._start(send)
        for number, event in early:
            await self._write(number, event, send)
        while not self._answers.is_over:
            found = await self._choices.next(self._ping_seconds)
            if found is None:
                await _send(send, PING)
            else:
                await self._write(*found, send)
        await _send(send, DONE, more=False)

    async def _until_accepted(self) -> list[Numbered]:
        """Collect events until inference speaks, so that a refusal still gets its status."""
        early: list[Numbered] = []
        accepted: set[int] = set()
        while len(accepted) < self._answers.count:
            found = await self._choices.next(self._ping_seconds)
            if found is None:
                break
            early.append(found)
            if len(early) >= MOST_EVENTS:
                break
            if isinstance(found[1], Accepted | Tokens | Ended):
                accepted.add(found[0])
        return early

    async def _write(self, number: int, event: Event, send: Send) -> None:
        chunks = self._answers.chunks(number, event)
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
        error = self._answers.named(error)
        if self._is_started:
            last = b"".join(map(event_bytes, self._answers.failure(error)))
            await _send(send, last, more=False)
            return
        response = error_response(error)
        response.headers["X-Request-Id"] = self._request_id
        response.headers.update(quota_headers(self._choices.quota))
        await response(scope, receive, send)

    def _told(self) -> dict[str, str]:
        headers = {"X-Request-Id": self._request_id}
        return headers | plan_headers(self._answers.plan) | quota_headers(self._choices.quota)


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


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
