"""TCP lines that a test can tear."""

from __future__ import annotations

import asyncio
import contextlib


class Line:
    """A TCP line to a server that can be torn, as when a client's machine dies."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[asyncio.StreamWriter] = []
        self._copies: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return int(self._listener.sockets[0].getsockname()[1])

    def reset(self) -> None:
        """Tear all connections."""
        for end in self._ends:
            end.transport.abort()

    async def stop(self) -> None:
        """Tear all connections and stop listening."""
        assert self._listener is not None
        self._listener.close()
        self.reset()
        await asyncio.gather(*self._copies)
        await self._listener.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += [writer, onward_writer]
        for source, target in ((reader, onward_writer), (onward_reader, writer)):
            self._copies.add(asyncio.create_task(_copy(source, target)))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await source.read(65536):
            target.write(chunk)
    target.transport.abort()
