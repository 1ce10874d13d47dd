"""What machine and client take by themselves: a door that refuses at once, a hop that does nothing.

    python -m benchmarks.load.roofs --http-port 8001 --grpc-port 8002 --target 127.0.0.1:8003

No gateway can be quicker here, so a figure stands beside what these two take in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc

from benchmarks.load import house, ways
from thermesh import rpc
from thermesh.process import new_event_loop
from thermesh.testing import free_port

REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass
class Roofs:
    """Clients of both: `relay` speaks Generate with the stub by one hop, `refusing` gets 429."""

    relay: grpc.aio.Channel
    refusing: ways.Rest


@asynccontextmanager
async def opened(mesh: house.House) -> AsyncIterator[Roofs]:
    """Run both beside a mesh, whose end is theirs."""
    http, port = free_port(), free_port()
    where = ("--http-port", str(http), "--grpc-port", str(port))
    mesh.start("roofs", __name__, *where, "--target", mesh.target("inference"))
    roofs = Roofs(rpc.connect(f"127.0.0.1:{port}"), ways.Rest(http))
    try:
        async with asyncio.timeout(house.START_SECONDS):
            await roofs.relay.channel_ready()
        yield roofs
    finally:
        await roofs.refusing.close()
        await roofs.relay.close()


class Refusing(asyncio.Protocol):
    """Reads a request to its end and refuses it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._came = b""

    def data_received(self, data: bytes) -> None:
        """Refuse once the body is whole."""
        self._came += data
        head, _, body = self._came.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length and len(body) >= int(length[1]):
            self._came = b""
            self._transport.write(REFUSAL)


def relaying(target: str) -> grpc.GenericRpcHandler:
    """Return what passes Generate on to `target`, bytes as they are."""
    service = "thermesh.v1.InferenceService"
    generate = grpc.aio.insecure_channel(target).stream_stream(f"/{service}/Generate")

    async def relay(requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for message in generate(requests, timeout=context.time_remaining()):
            yield message

    handlers = {"Generate": grpc.stream_stream_rpc_method_handler(relay)}
    return grpc.method_handlers_generic_handler(service, handlers)


async def serve(http_port: int, grpc_port: int, target: str) -> None:
    """Serve until a signal comes."""
    loop = asyncio.get_running_loop()
    door = await loop.create_server(Refusing, "127.0.0.1", http_port)
    server = grpc.aio.server(handlers=[relaying(target)], options=rpc.SERVER_OPTIONS)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    await rpc.until_signal()
    door.close()
    await server.stop(0)


def main() -> None:
    """Read where to serve, and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--target", required=True)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options.http_port, options.grpc_port, options.target))


if __name__ == "__main__":
    main()
