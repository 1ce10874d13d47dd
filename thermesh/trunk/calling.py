"""The calling end of a trunk: opened in the background, opened again when it breaks.

    closed --Carry, first word of the server--> open --the stream ends--> closed

Rule 1: nobody waits for a trunk. While there is none, calls go their usual way.
Rule 2: a trunk that breaks ends its calls with UNAVAILABLE, as a connection would.
Rule 3: where both are on one machine frames go by a socket beside the stream (`local`), and the
trunk ends with either.
Rule 4: a server that carries no trunks is asked again after a minute, one that is away
as soon as there is a connection to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

import grpc

from thermesh.trunk.line import Line
from thermesh.trunk.local import SocketWire, connected
from thermesh.trunk.outgoing import Outgoing
from thermesh.v1 import trunk_pb2, trunk_pb2_grpc
from thermesh.v1.trunk_pb2 import CallFrame, CallStatus, CarryRequest, CarryResponse

log = logging.getLogger(__name__)

AGAIN_SECONDS = 0.2
UNKNOWN_SECONDS = 60.0
FRAMES_A_TURN = 16
"""After so many frames those who wait for them go on: the first token of a batch does not wait
until the gateway has looked at the last.
"""

BROKEN = CallStatus(code=grpc.StatusCode.UNAVAILABLE.value[0], message="the connection was lost")


class Trunk:
    """Calls to one server; needs a running event loop from `keep` on."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = trunk_pb2_grpc.TrunkServiceStub(channel)
        self._lines: dict[int, Line] = {}
        self._numbers = itertools.count(1)
        self._outgoing = Outgoing()
        self._keeping: asyncio.Task[None] | None = None
        self.is_open = False

    def keep(self) -> None:
        """Open it in the background, and again whenever it breaks; harmless when repeated."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="trunk")

    async def close(self) -> None:
        """End the trunk and every call on it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    def begin(self, opening: trunk_pb2.CallOpening) -> Line:
        """Begin a call; the trunk must be open. Its first message tells of it."""
        line = Line(next(self._numbers), self._outgoing.post)
        self._lines[line.number] = line
        self._outgoing.hold(CallFrame(call=line.number, open=opening))
        return line

    def half_close(self, line: Line) -> None:
        """Say that no more messages will be sent on `line`."""
        if line.status is None:
            self._outgoing.post(CallFrame(call=line.number, half_close=trunk_pb2.HalfClose()))

    def cancel(self, line: Line, status: CallStatus) -> None:
        """End `line` with `status` at this end; the other one stops."""
        if line.status is None:
            self._outgoing.post(CallFrame(call=line.number, cancel=trunk_pb2.CancelCall()))
            self._lines.pop(line.number, None)
            line.drop(status)

    async def _keep(self) -> None:
        while True:
            seconds = AGAIN_SECONDS
            try:
                await self._carry()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    seconds = UNKNOWN_SECONDS
            finally:
                self._break()
            await asyncio.sleep(seconds)

    async def _carry(self) -> None:
        call = self._stub.Carry(wait_for_ready=True)
        writing = asyncio.create_task(self._write(call), name="trunk-write")
        wire: SocketWire | None = None
        try:
            async for batch in call:
                if batch.HasField("local"):
                    wire = await self._by_socket(batch.local)
                self.is_open = True
                for number, frame in enumerate(batch.frames, 1):
                    self._hear(frame)
                    if number % FRAMES_A_TURN == 0:
                        await asyncio.sleep(0)
        finally:
            if wire is not None:
                wire.close()
            call.cancel()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _by_socket(self, offer: trunk_pb2.LocalSocket) -> SocketWire | None:
        end = await connected(offer)
        if end is None:
            return None
        wire = SocketWire(end, self._hear_batch, self._break, FRAMES_A_TURN)
        self._outgoing.carry_by(wire, _packed)
        return wire

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        # How the stream broke is told to its reader.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async for frames in self._outgoing.batches():
                await call.write(CarryRequest(frames=frames))

    def _hear_batch(self, message: bytes) -> int:
        frames = CarryResponse.FromString(message).frames
        for frame in frames:
            self._hear(frame)
        return len(frames)

    def _hear(self, frame: CallFrame) -> None:
        line = self._lines.get(frame.call)
        if line is None:
            return  # it was cancelled here
        kind = frame.WhichOneof("frame")
        line.hear(frame, kind)
        if kind == "status":
            del self._lines[frame.call]

    def _break(self) -> None:
        if self.is_open:
            log.info("a trunk with %d calls on it was lost", len(self._lines))
        self.is_open = False
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.end(BROKEN)
        self._outgoing = Outgoing()
        self._numbers = itertools.count(1)


def _packed(frames: list[CallFrame]) -> bytes:
    return CarryRequest(frames=frames).SerializeToString()
