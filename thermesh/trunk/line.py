"""One end of one call: what came and was not read yet, and how much may still be sent.

Bytes are counted as HTTP/2 counts them for a stream (RFC 9113, section 5.2), but that a message
is never cut: one may be sent while any of the window is left. So at most a window and one message
wait at a reader that does not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from thermesh.bell import Bell
from thermesh.errors import ResourceExhausted
from thermesh.v1.trunk_pb2 import CallFrame, CallStatus

WINDOW_BYTES = 65_536
MOST_MESSAGE_BYTES = 8 * 1024 * 1024 - 128 * 1024
"""Of one message; with its frame it has to fit into a message of gRPC."""

FRAME_BYTES = 16
"""What a frame counts besides its message, so that empty ones are not free."""

Post = Callable[[CallFrame], None]


class Line:
    """One end of call `number`; `post` sends its frames. Needs a running event loop."""

    __slots__ = (
        "_came",
        "_inbox",
        "_is_half_closed",
        "_post",
        "_read",
        "_room",
        "number",
        "status",
    )

    def __init__(self, number: int, post: Post) -> None:
        self.number = number
        self.status: CallStatus | None = None
        self._post = post
        self._inbox: deque[bytes] = deque()
        self._is_half_closed = False
        self._came, self._room = Bell(), Window()
        self._read = 0

    async def send(self, message: bytes) -> None:
        """Send a message once the window has room; nothing after the end.

        Raises ResourceExhausted for a message that is too long.
        """
        await self._room.opened()
        self.send_now(message)

    def send_now(self, message: bytes) -> None:
        """Send a message whatever is left of the window, as the first of a call may be."""
        if len(message) > MOST_MESSAGE_BYTES:
            raise ResourceExhausted(
                f"a message of {len(message)} bytes is longer than {MOST_MESSAGE_BYTES}"
            )
        if self.status is None:
            self._room.take(len(message) + FRAME_BYTES)
            self._post(CallFrame(call=self.number, message=message))

    def hear(self, frame: CallFrame, kind: str | None) -> None:
        """Take a frame of the other end; `kind` is which of its members is set."""
        if kind == "message":
            self._inbox.append(frame.message)
            self._came.ring()
        elif kind == "credit":
            self._room.give(frame.credit)
        elif kind == "half_close":
            self._is_half_closed = True
            self._came.ring()
        elif kind == "status":
            self.end(frame.status)

    def end(self, status: CallStatus) -> None:
        """Nothing more will come or be sent; what came can still be read. The first end holds."""
        if self.status is None:
            self.status = status
            self._came.ring()
            self._room.give(WINDOW_BYTES)

    def drop(self, status: CallStatus) -> None:
        """End, and forget what came."""
        self._inbox.clear()
        self.end(status)

    async def take(self) -> bytes | None:
        """Return the next message; None after the last."""
        while not self._inbox:
            if self._is_half_closed or self.status is not None:
                return None
            await self._came.heard()
        message = self._inbox.popleft()
        self._count(len(message) + FRAME_BYTES)
        return message

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the messages to the last."""
        while (message := await self.take()) is not None:
            yield message

    def _count(self, size: int) -> None:
        """Tell the other end what was read, half a window at a time."""
        self._read += size
        if self._read >= WINDOW_BYTES // 2 and self.status is None:
            self._post(CallFrame(call=self.number, credit=self._read))
            self._read = 0


class Window:
    """How many bytes may be sent before the other end has read some."""

    def __init__(self) -> None:
        self._left = WINDOW_BYTES
        self._is_open: asyncio.Event | None = None

    async def opened(self) -> None:
        """Return once something may be sent."""
        while self._left <= 0:
            self._is_open = self._is_open or asyncio.Event()
            self._is_open.clear()
            await self._is_open.wait()

    def take(self, size: int) -> None:
        """Count what is sent."""
        self._left -= size

    def give(self, size: int) -> None:
        """Count what the other end has read."""
        self._left += size
        if self._left > 0 and self._is_open is not None:
            self._is_open.set()
