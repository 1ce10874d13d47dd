"""What stands before every REST route: the span, the last net for bugs, and body limits.

Plain ASGI, because Starlette's BaseHTTPMiddleware would put a task and a queue
between the stream and the client.
"""

from __future__ import annotations

import asyncio
import logging
import uuid

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.callers import Caller
from services.gateway.gate import Gate
from services.gateway.rest.problems import Problem, error_response, problem_response
from thermesh.errors import Internal, MeshError
from thermesh.telemetry import tracer

log = logging.getLogger(__name__)

BODY_SECONDS = 20.0
"""How long a body may take; who sends it drop by drop holds a connection no longer."""

_API = "/v1/"
_ADMIN = "/admin/"
_QUIET = ("/healthz", "/readyz", "/metrics", "/page", "/docs", "/admin/overview")


class Tracing:
    """Opens the root span of a request, below the caller's `traceparent` where it has one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve inside the span; it ends however the request ends."""
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self._app(scope, receive, send)
            return
        token = otel_context.attach(propagate.extract(dict(Headers(scope=scope))))
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        try:
            with tracer().start_as_current_span(
                f"{scope['method']} {scope['path']}",
                kind=trace.SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
            ) as span:
                await self._app(scope, receive, _noting_status(send, span))
        finally:
            otel_context.detach(token)


class Net:
    """Turns a bug into a 500 that says nothing but where the log has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; log what should not have happened."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            error_id = uuid.uuid4().hex[:12]
            log.exception("%s failed unexpectedly (error id %s)", scope.get("path"), error_id)
            if not started:
                error = Internal(f"internal error, logged under id {error_id}")
                await error_response(error)(scope, receive, send)


class Keys:
    """Asks for a key before anything else of a request to the API is read."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, with the caller in the request's state."""
        if scope["type"] == "http" and scope["path"].startswith((_API, _ADMIN)):
            try:
                caller = await self._gate.admit(Headers(scope=scope).get("authorization"))
                if scope["path"].startswith(_ADMIN):
                    caller.check_admin()
            except MeshError as error:
                await error_response(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def caller_of(request: Request) -> Caller:
    """Return who sent a request to the API."""
    caller: Caller = request.state.caller
    return caller


class BodyLimits:
    """Refuses bodies that are too long or not JSON, before they are read in full."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve requests whose body is within the limits."""
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH"}:
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope))
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(receive)
        except TimeoutError:
            problem = Problem(408, f"no body came within {BODY_SECONDS:.0f} s", "request_timeout")
            await problem_response(problem)(scope, receive, send)
            return
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _check(self, headers: Headers) -> None:
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(
                415,
                f"content type {kind or 'of the body is missing'!r}: send application/json",
                "unsupported_media_type",
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_long()

    async def _read(self, receive: Receive) -> bytes:
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_bytes:
                raise self._too_long()
            more = message.get("more_body", False)
        return b"".join(chunks)

    def _too_long(self) -> Problem:
        return Problem(413, f"the body is longer than {self._max_bytes} bytes", "body_too_large")


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _noting_status(send: Send, span: trace.Span) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(trace.StatusCode.ERROR)
        await send(message)

    return noting
