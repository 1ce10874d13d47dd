"""Frames that wait to be sent: those that wait together leave together.

Bounded by the windows of the calls, and by how many calls a trunk may carry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from thermesh.trunk.local import SocketWire
from thermesh.v1.trunk_pb2 import CallFrame

MOST_BYTES = 64 * 1024
"""Of what leaves together, so that a long message of one call does not hold up many others."""

FRAMES_AT_ONCE = 8
"""On a socket so many leave without waiting for the end of this turn of the loop: the other end
works on the first tokens of a batch while the last are made.
"""

Pack = Callable[[list[CallFrame]], bytes]


class Outgoing:
    """A queue in order of arrival. Needs a running event loop where it is carried by a wire."""

    def __init__(self) -> None:
        self._waiting: deque[CallFrame] = deque()
        self._came = asyncio.Event()
        self._is_closed = False
        self._wire: SocketWire | None = None
        self._is_due = False
        self._is_held = False

    def carry_by(self, wire: SocketWire, pack: Pack) -> None:
        """Send by `wire` from now on, each batch as the message that `pack` makes of it."""
        self._wire, self._pack = wire, pack
        wire.drained = self._flush
        self._flush()

    def post(self, frame: CallFrame) -> None:
        """Add a frame."""
        self._waiting.append(frame)
        if self._wire is None:
            self._came.set()
        elif self._is_held or len(self._waiting) >= FRAMES_AT_ONCE:
            self._flush()
        else:
            self._flush_soon()

    def hold(self, frame: CallFrame) -> None:
        """Add a frame that leaves together with the next one, and at once: else what begins would
        wait for all that this turn of the loop does, half a millisecond in a gateway. Where none
        follows in the next turn it leaves alone.
        """
        self._waiting.append(frame)
        if self._wire is None:
            asyncio.get_running_loop().call_soon(self._came.set)
        else:
            self._is_held = True
            asyncio.get_running_loop().call_soon(self._flush_soon)

    def close(self) -> None:
        """Let `batches` end once everything was taken."""
        self._is_closed = True
        self._came.set()

    async def batches(self) -> AsyncIterator[list[CallFrame]]:
        """Yield what waits, until closed; with a wire nothing waits here but for it."""
        while True:
            while self._wire is not None or not self._waiting:
                if self._is_closed and self._is_sent:
                    return
                self._came.clear()
                await self._came.wait()
            yield self._batch()

    @property
    def _is_sent(self) -> bool:
        return not self._waiting and (self._wire is None or not self._wire.is_full)

    def _flush_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_due = self._is_held = False
        while self._wire is not None and self._waiting and not self._wire.is_full:
            self._wire.send(self._pack(self._batch()))
        if self._is_closed:
            self._came.set()

    def _batch(self) -> list[CallFrame]:
        frames, size = [self._waiting.popleft()], 0
        while self._waiting:
            size += frames[-1].ByteSize()
            if size >= MOST_BYTES:
                break
            frames.append(self._waiting.popleft())
        return frames
