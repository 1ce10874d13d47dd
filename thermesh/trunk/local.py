"""Where two rooms share a machine, a trunk's frames go by a Unix socket.

A message of gRPC costs its writer and its reader a tenth of a millisecond each, most of it
threads that wake one another; one on such a socket a few microseconds. gRPC's stream stays: it
proves who either side is, by TLS where the mesh has that, carries the token by which the
socket is found to be this trunk's, and ends with it. What goes by the socket never
leaves the kernel. Linux alone has sockets without a file, which end with their process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import struct
import sys
from collections.abc import Callable, Iterator

from thermesh.v1.trunk_pb2 import LocalSocket

log = logging.getLogger(__name__)

IS_POSSIBLE = sys.platform == "linux"
TOKEN_BYTES = 16
WELCOME = b"+"
PATIENCE_SECONDS = 0.5
"""For either side to say its word; else frames go by gRPC."""

READ_BYTES = 64 * 1024
MOST_BYTES = 8 * 1024 * 1024
"""Of one message; who sends a longer one speaks another language."""

_LENGTH = struct.Struct("<I")


class SocketWire:
    """One end of a socket: messages behind their lengths, in order.

    `hear` is called with each message and returns how many frames were in it; after `turn_frames`
    of them others of the loop go on first. `lost` is called once, when the other end is gone.
    Not asyncio's transport: that sends at the end of a turn of the loop, and the first token of
    a batch would wait until the last is made.
    """

    def __init__(
        self,
        end: socket.socket,
        hear: Callable[[bytes], int],
        lost: Callable[[], None],
        turn_frames: int,
    ) -> None:
        self._socket = end
        self._hear = hear
        self._lost = lost
        self._turn_frames = turn_frames
        self._came, self._unsent = bytearray(), bytearray()
        self._is_open = True
        self._is_hearing = False
        self.drained: Callable[[], None] = _nothing
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._readable)

    @property
    def is_full(self) -> bool:
        """Whether the other end is behind; `drained` is called when it is not any more."""
        return bool(self._unsent)

    def send(self, message: bytes) -> None:
        """Send a message; while the wire is full it is kept."""
        if not self._is_open:
            return
        framed = _LENGTH.pack(len(message)) + message
        if self._unsent:
            self._unsent += framed
            return
        sent = self._sent(framed)
        if self._is_open and sent < len(framed):
            self._unsent += framed[sent:]
            self._loop.add_writer(self._socket, self._writable)

    def close(self) -> None:
        """End it; harmless when repeated."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._lost()

    def _sent(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.close()
            return 0

    def _writable(self) -> None:
        del self._unsent[: self._sent(self._unsent)]
        if self._is_open and not self._unsent:
            self._loop.remove_writer(self._socket)
            self.drained()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._hear_rest()
            self.close()
            return
        self._came += data
        if not self._is_hearing:
            self._hear_some()

    def _hear_some(self) -> None:
        """Hear what came, a turn's frames at a time."""
        frames = 0
        self._is_hearing = False
        while self._is_open and (message := self._next()) is not None:
            frames += self._hear(message)
            if frames >= self._turn_frames:
                self._is_hearing = True
                self._loop.call_soon(self._hear_some)
                return

    def _hear_rest(self) -> None:
        """Hear what the other end said before it went."""
        while self._is_open and (message := self._next()) is not None:
            self._hear(message)

    def _next(self) -> bytes | None:
        if len(self._came) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._came)[0]
        if end > MOST_BYTES:
            self.close()
        if len(self._came) < end or end > MOST_BYTES:
            return None
        message = bytes(self._came[_LENGTH.size : end])
        del self._came[:end]
        return message


class LocalSockets:
    """The serving end: one socket that listens, and the trunks that are awaited on it."""

    def __init__(self) -> None:
        self._awaited: dict[bytes, Callable[[socket.socket], None]] = {}
        self._name = ""
        self._listening: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Begin to listen, where there are such sockets. Needs a running event loop."""
        if not IS_POSSIBLE:
            return
        self._name = f"thermesh-{secrets.token_hex(16)}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{self._name}")
        listener.listen()
        listener.setblocking(False)
        self._listening = asyncio.create_task(self._listen(listener), name="local-sockets")
        self._listening.add_done_callback(lambda _: listener.close())

    async def close(self) -> None:
        """Meet nobody any more; sockets that were handed over stay."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    @contextlib.contextmanager
    def offered(self, take: Callable[[socket.socket], None]) -> Iterator[LocalSocket | None]:
        """Return where `take` gets a socket from, for as long as the block lasts."""
        if self._listening is None:
            yield None
            return
        token = secrets.token_bytes(TOKEN_BYTES)
        self._awaited[token] = take
        try:
            yield LocalSocket(name=self._name, token=token)
        finally:
            self._awaited.pop(token, None)

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            end, _ = await loop.sock_accept(listener)
            await self._meet(end)

    async def _meet(self, end: socket.socket) -> None:
        """Hand a socket to whom its token names. One at a time: who dawdles is soon sent away."""
        take = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                token = await asyncio.get_running_loop().sock_recv(end, TOKEN_BYTES)
            if token in self._awaited:
                end.send(WELCOME)
                take = self._awaited.pop(token)
                take(end)
        except (OSError, TimeoutError):
            log.debug("a client of the socket %s left, or said nothing", self._name)
        finally:
            if take is None:
                end.close()


async def connected(local: LocalSocket) -> socket.socket | None:
    """Return a socket to where `local` says; None where that is another machine's, or is silent."""
    if not IS_POSSIBLE or len(local.token) != TOKEN_BYTES:
        return None
    loop, end = asyncio.get_running_loop(), socket.socket(socket.AF_UNIX)
    end.setblocking(False)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await loop.sock_connect(end, f"\0{local.name}")
            await loop.sock_sendall(end, local.token)
            if await loop.sock_recv(end, len(WELCOME)) == WELCOME:
                return end
    except (OSError, TimeoutError):
        log.debug("no way to the socket %s; the trunk goes by gRPC", local.name)
    except BaseException:
        end.close()
        raise
    end.close()
    return None


def _nothing() -> None:
    pass
