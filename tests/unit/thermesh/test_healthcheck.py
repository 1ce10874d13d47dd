"""The command that containers ask a room with."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from thermesh import healthcheck, rpc
from thermesh.testing import free_port


class Door(http.server.BaseHTTPRequestHandler):
    """Answers /readyz with 200 and everything else with 503."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests need no access log."""


@pytest.fixture
def http_door() -> Iterator[str]:
    """Base URL of a small HTTP server."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def room() -> AsyncIterator[rpc.Server]:
    """A gRPC server with nothing but health and reflection."""
    server = rpc.Server("room", "127.0.0.1", 0, grace_seconds=0)
    await server.start()
    yield server
    await server.drain()


def ask(*arguments: str) -> int:
    """Exit status of the command, which may wait two seconds at most."""
    return healthcheck.main([*arguments, "--timeout", "2"])


async def test_grpc_room_that_serves_is_healthy(room):
    """A serving room gives exit status 0."""
    assert await asyncio.to_thread(ask, "grpc", f"127.0.0.1:{room.port}") == 0


async def test_grpc_room_that_drains_is_not_healthy(room, capsys):
    """A room that says NOT_SERVING gives 1 and the line says so."""
    await room.set_serving(False)
    assert await asyncio.to_thread(ask, "grpc", f"127.0.0.1:{room.port}") == 1
    assert capsys.readouterr().out == f"127.0.0.1:{room.port}: NOT_SERVING\n"


async def test_unknown_service_is_not_healthy(room):
    """Asking for a service that the room has not gives 1, not a traceback."""
    arguments = ("grpc", f"127.0.0.1:{room.port}", "--service", "thermesh.v1.Nothing")
    assert await asyncio.to_thread(ask, *arguments) == 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nobody_there_is_not_healthy(protocol, capsys):
    """A port where nobody listens gives 1 and UNAVAILABLE."""
    target = f"127.0.0.1:{free_port()}"
    assert ask(protocol, f"http://{target}" if protocol == "http" else target) == 1
    assert "UNAVAILABLE" in capsys.readouterr().out


def test_http_door_that_is_ready_is_healthy(http_door):
    """A 200 gives exit status 0."""
    assert ask("http", f"{http_door}/readyz") == 0


def test_http_door_that_is_not_ready_is_not_healthy(http_door, capsys):
    """A 503 gives 1 and the line carries the code."""
    assert ask("http", f"{http_door}/healthz") == 1
    assert capsys.readouterr().out.endswith(": 503\n")


def test_only_http_urls_are_opened(tmp_path):
    """A file URL is refused: the command must not become a way to read files."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert ask("http", secret.as_uri()) == 1
