"""Frames that wait to be sent: those that wait together leave together.

Bounded by the windows of the calls, and by how many calls a trunk may carry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from thermesh.v1.trunk_pb2 import CallFrame

MOST_BYTES = 64 * 1024
"""Of what leaves together, so that a long message of one call does not hold up many others."""


class Outgoing:
    """A queue in order of arrival."""

    def __init__(self) -> None:
        self._waiting: deque[CallFrame] = deque()
        self._came = asyncio.Event()
        self._is_closed = False

    def post(self, frame: CallFrame) -> None:
        """Add a frame."""
        self._waiting.append(frame)
        self._came.set()

    def hold(self, frame: CallFrame) -> None:
        """Add a frame that goes with what this turn of the loop brings next."""
        self._waiting.append(frame)
        asyncio.get_running_loop().call_soon(self._came.set)

    def close(self) -> None:
        """Let `batches` end once everything was taken."""
        self._is_closed = True
        self._came.set()

    async def batches(self) -> AsyncIterator[list[CallFrame]]:
        """Yield what waits, until closed."""
        while True:
            while not self._waiting:
                if self._is_closed:
                    return
                self._came.clear()
                await self._came.wait()
            yield self._batch()

    def _batch(self) -> list[CallFrame]:
        frames, size = [self._waiting.popleft()], 0
        while self._waiting:
            size += frames[-1].ByteSize()
            if size >= MOST_BYTES:
                break
            frames.append(self._waiting.popleft())
        return frames
