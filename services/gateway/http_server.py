"""uvicorn inside a loop that is not its own: no signal handlers, a port to ask for, a drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from thermesh.errors import Unavailable
from thermesh.tls import Door

KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048
PING_SECONDS = 20.0
"""How often a WebSocket is pinged, and how long its answer may take."""

MAX_HEADER_BYTES = 32 * 1024
HEADER_SECONDS = 20.0
"""How long a new connection may take to say its first request's headers."""


class _Connection(HttpToolsProtocol):
    """A connection that must say something, whose headers are bounded, and that may ask for an
    upgrade nobody offers.

    uvicorn has the last two in its other parser alone, which is written in Python: a refused
    request took a quarter more processor time with it.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEADER_SECONDS, self._give_up)
        self._is_in_head = False
        self._head_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._fed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._is_in_head, self._head_bytes = False, 0
        self._count_head(sum(len(name) + len(value) for name, value in self.headers))
        if not self._is_declining:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._is_declining:
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        # From here on the connection is another protocol's, which will not call us at its end.
        self._patience.cancel()
        super().handle_websocket_upgrade()

    def _fed(self, data: bytes) -> bytes:
        """Parse `data`, and return what is to be parsed next."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self._is_declining:
                return self._head_without_upgrade() + data[upgrade.args[0] :]
        if self._is_in_head:
            self._count_head(len(data))
        return b""

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEADER_BYTES:
            raise httptools.HttpParserError

    @property
    def _is_declining(self) -> bool:
        """Whether the request goes on as if it had not asked for an upgrade (RFC 9110, 7.8).

        Java's client asks for HTTP/2 so. The parser takes a body after that for the other
        protocol's, so that a new one reads the head again, without the header.
        """
        return self.parser.should_upgrade() and self._get_upgrade() not in {None, b"websocket"}

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    def _give_up(self) -> None:
        cycle: object = self.cycle  # none before the first request, whatever its type says
        if cycle is None:
            self.transport.close()


class _Socket(WebSocketsSansIOProtocol):
    """A WebSocket whose refusal as HTTP is an answer; uvicorn logs it as a handshake forgotten."""

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        is_answer = message["type"] == "websocket.http.response.body"
        if is_answer and not message.get("more_body", False):
            self.handshake_complete = True


class _Config(uvicorn.Config):
    """uvicorn's settings, with a TLS context that follows its files."""

    def __init__(self, app: ASGIApp, door: Door | None, **settings: Any) -> None:
        super().__init__(app, **settings)
        # Made now, so that a bad file is found before anything listens.
        self._context = door.context() if door else None

    def load(self) -> None:
        super().load()
        self.ssl = self._context


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, started and stopped by whoever owns the loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an ASGI application; `grace_seconds` is how long open answers may go on.

    `max_message_bytes` bounds one message of a WebSocket. With a `door` it speaks https.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        grace_seconds: float,
        door: Door | None = None,
        *,
        max_message_bytes: int = 1024 * 1024,
    ) -> None:
        self._host = host
        self._port = port
        config = _Config(
            app,
            door,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws=_Socket,
            ws_max_size=max_message_bytes,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            # Speech does not compress, and each window would cost memory.
            ws_per_message_deflate=False,
            http=_Connection,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            # uvicorn takes whole seconds and reads 0 as at once.
            timeout_graceful_shutdown=round(grace_seconds),
        )
        self._server = _Uvicorn(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Bind, serve and return the port; raise Unavailable where the address is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        address = (self._host, self._port)
        try:
            listener = socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            place = f"{self._host}:{self._port}"
            raise Unavailable(f"the gateway cannot listen for HTTP on {place}") from error
        # Connections inherit it. asyncio sets it only on sockets that name their protocol,
        # which those of create_server do not; without it every second write of an answer
        # waits for the client's delayed acknowledgement, 40 ms on Linux (RFC 896, RFC 1122).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port: int = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listener]), name="http")
        await self._server.is_up.wait()
        return port

    async def drain(self) -> None:
        """Take no new connections, let open answers end within the grace, then stop."""
        self._server.should_exit = True
        if self._serving:
            await self._serving
