"""`/v1/realtime`: who may come in, and the life of a connection.

Keys come as `Authorization`, or, from browsers, which cannot set it, as the
subprotocol `openai-insecure-api-key.KEY`. A page of another origin may not
talk to a server without keys, since any page could reach one on the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import urllib.parse
from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from services.gateway.asking import DEFAULT_TENANT
from services.gateway.callers import Caller
from services.gateway.realtime.channel import Channel, SlowReader
from services.gateway.realtime.session import Session
from services.gateway.rest.doors import Doors
from services.gateway.rest.problems import error_response
from thermesh.errors import MeshError, PermissionDenied

log = logging.getLogger(__name__)

SUBPROTOCOL = "realtime"
KEY_PREFIX = "openai-insecure-api-key."
MAX_SESSION_SECONDS = 3600.0

GOING_AWAY, TRY_LATER, BROKEN = 1001, 1013, 1011

router = APIRouter()


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket, model: str = "") -> None:
    """Serve one session."""
    doors: Doors = websocket.app.state.doors
    with contextlib.ExitStack() as held:
        try:
            _check_origin(websocket, doors)
            caller = await doors.gate.admit(_authorization(websocket))
            held.enter_context(_place(doors, caller))
            served = (await doors.models.model(model)).id if model else await _usual(doors)
        except MeshError as error:
            await websocket.send_denial_response(error_response(error))
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        code = await _converse(websocket, doors, served)
    if websocket.client_state is WebSocketState.CONNECTED:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(code)


async def _converse(websocket: WebSocket, doors: Doors, model: str) -> int:
    """Run the session and the way to the client side by side; return how to close."""

    async def admit() -> Caller:
        return await doors.gate.admit(_authorization(websocket))

    channel = Channel(websocket.send_text)
    session = Session(doors.realtime, channel, admit, model)
    sending = asyncio.create_task(channel.run(), name="channel")
    serving = asyncio.create_task(session.serve(_messages(websocket)), name="session")
    tasks = {sending, serving}
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=MAX_SESSION_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        return _code(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await session.close()


def _code(done: set[asyncio.Task[None]]) -> int:
    for task in done:
        error = task.exception()
        if isinstance(error, SlowReader):
            return TRY_LATER
        if error is not None and not isinstance(error, WebSocketDisconnect):
            log.error("a realtime session failed unexpectedly", exc_info=error)
            return BROKEN
    return GOING_AWAY


async def _messages(websocket: WebSocket) -> AsyncIterator[str]:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        yield text if text is not None else message["bytes"].decode(errors="replace")


def _place(doors: Doors, caller: Caller) -> contextlib.AbstractContextManager[None]:
    return doors.sessions.entered(
        caller.tenant or DEFAULT_TENANT, caller.allowance.requests_at_once
    )


async def _usual(doors: Doors) -> str:
    return (await doors.models.models())[0].id


def _authorization(websocket: WebSocket) -> str | None:
    header: str | None = websocket.headers.get("authorization")
    if header:
        return header
    for offered in websocket.scope.get("subprotocols", []):
        if offered.startswith(KEY_PREFIX):
            return f"Bearer {offered.removeprefix(KEY_PREFIX)}"
    return None


def _check_origin(websocket: WebSocket, doors: Doors) -> None:
    origin = websocket.headers.get("origin")
    if doors.gate.required or not origin:
        return
    if urllib.parse.urlsplit(origin).netloc != websocket.headers.get("host"):
        raise PermissionDenied(
            "a page of another origin may talk to this server only with a key",
            reason="OTHER_ORIGIN",
        )
