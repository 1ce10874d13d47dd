"""The serving end of trunks: the same handlers, called with a smaller context.

Each call is a task of its own, cancelled where its client cancels it, where its
deadline passes and where the trunk breaks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn

import grpc

from thermesh.trunk.line import Line
from thermesh.trunk.local import LocalSockets, SocketWire
from thermesh.trunk.method import STATUS_DETAILS
from thermesh.trunk.outgoing import Outgoing
from thermesh.v1 import trunk_pb2_grpc
from thermesh.v1.trunk_pb2 import (
    CallFrame,
    CallOpening,
    CallStatus,
    CarryRequest,
    CarryResponse,
    LocalSocket,
)

log = logging.getLogger(__name__)

MOST_CALLS = 4096
"""Of one trunk at once; the rooms' own bounds are far below."""

FRAMES_A_TURN = 64
"""Of a socket; then others of the loop go on."""

Wrap = Callable[[Any, str], Any]


class Handlers:
    """The methods of a server; stands in for it where services are added."""

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap
        self._bare: dict[str, Any] = {}
        self._wrapped: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: the same handlers are registered by their names."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a service."""
        self._bare.update({f"/{service}/{name}": each for name, each in handlers.items()})

    def find(self, path: str) -> Any:
        """Return the handler of a method; None where there is none."""
        if path not in self._wrapped and path in self._bare:
            self._wrapped[path] = self._wrap(self._bare[path], path)
        return self._wrapped.get(path)


class Trunks(trunk_pb2_grpc.TrunkServiceServicer):
    """Carries the calls of other rooms to `handlers`."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._sockets = LocalSockets()
        self._open: set[ServedTrunk] = set()
        self._is_draining = False

    def listen(self) -> None:
        """Meet clients of this machine by socket. Needs a running event loop."""
        self._sockets.listen()

    async def close(self) -> None:
        """Meet no more."""
        await self._sockets.close()

    async def Carry(  # named by the contract
        self, requests: AsyncIterator[CarryRequest], context: Any
    ) -> None:
        """Serve one trunk for as long as its client keeps it."""
        if self._is_draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        trunk = ServedTrunk(self._handlers)
        self._open.add(trunk)
        try:
            with self._sockets.offered(trunk.go_by) as local:
                await trunk.run(requests, context, local)
        finally:
            self._open.discard(trunk)

    def drain(self) -> None:
        """Begin no more calls; a trunk ends with the last call on it."""
        self._is_draining = True
        for trunk in self._open:
            trunk.drain()


class ServedTrunk:
    """One trunk and the calls on it."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._outgoing = Outgoing()
        self._lines: dict[int, Line] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_draining = False
        self._wire: SocketWire | None = None
        self._lost = asyncio.Event()

    async def run(
        self, requests: AsyncIterator[CarryRequest], context: Any, local: LocalSocket | None
    ) -> None:
        """Serve until the client ends the trunk or the last call of a draining one is over.

        `local` is where the client may bring a socket for `go_by`.
        """
        ends = (self._read(requests), self._write(context, local), self._lost.wait())
        work = [asyncio.create_task(each, name="trunk") for each in ends]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._wire is not None:
                self._wire.close()
            everything = [*work, *self._tasks.values()]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    def go_by(self, end: socket.socket) -> None:
        """Hear and say frames by a socket from now on."""
        self._wire = SocketWire(end, self._hear_batch, self._lost.set, FRAMES_A_TURN)
        self._outgoing.carry_by(self._wire, _packed)

    def drain(self) -> None:
        """Begin no more calls, and end with the last."""
        self._is_draining = True
        self._note_drained()

    async def _read(self, requests: AsyncIterator[CarryRequest]) -> None:
        async for batch in requests:
            for frame in batch.frames:
                self._hear(frame)

    async def _write(self, context: Any, local: LocalSocket | None) -> None:
        await context.write(CarryResponse(local=local))
        async for frames in self._outgoing.batches():
            await context.write(CarryResponse(frames=frames))

    def _hear_batch(self, message: bytes) -> int:
        frames = CarryRequest.FromString(message).frames
        for frame in frames:
            self._hear(frame)
        return len(frames)

    def _hear(self, frame: CallFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "open":
            self._begin(frame)
        elif kind == "cancel" and frame.call in self._tasks:
            self._tasks[frame.call].cancel()
        elif frame.call in self._lines:
            self._lines[frame.call].hear(frame, kind)

    def _begin(self, frame: CallFrame) -> None:
        opening, number = frame.open, frame.call
        if self._is_draining:
            self._refuse(number, grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        elif len(self._tasks) >= MOST_CALLS:
            self._refuse(number, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls on one trunk")
        else:
            line = Line(number, self._outgoing.post)
            call = ServedCall(line, self._handlers, opening)
            task = asyncio.create_task(call.serve(), name=opening.method)
            self._lines[number], self._tasks[number] = line, task
            task.add_done_callback(lambda _: self._over(number))

    def _refuse(self, number: int, code: grpc.StatusCode, message: str) -> None:
        status = CallStatus(code=code.value[0], message=message)
        self._outgoing.post(CallFrame(call=number, status=status))

    def _over(self, number: int) -> None:
        line = self._lines.pop(number)
        del self._tasks[number]
        if line.status is not None:
            self._outgoing.post(CallFrame(call=number, status=line.status))
        self._note_drained()

    def _note_drained(self) -> None:
        if self._is_draining and not self._tasks:
            self._outgoing.close()


class ServedCall:
    """One call, and the part of grpc.aio.ServicerContext that handlers of the mesh use."""

    def __init__(self, line: Line, handlers: Handlers, opening: CallOpening) -> None:
        self._line = line
        self._handlers = handlers
        self._method = opening.method
        self._serialize: Callable[[Any], bytes] = bytes
        self._metadata = tuple((entry.name, entry.value) for entry in opening.metadata)
        self._seconds = opening.timeout_us / 1e6 if opening.timeout_us else None
        self._began = time.monotonic()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what the client sent beside its messages."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the seconds left to the call; None without deadline."""
        if self._seconds is None:
            return None
        return max(0.0, self._began + self._seconds - time.monotonic())

    async def write(self, message: Any) -> None:
        """Send a response; wait while the client does not read."""
        await self._line.send(self._serialize(message))

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> NoReturn:
        """End the call with a status; always raises."""
        told = dict(trailing_metadata).get(STATUS_DETAILS, b"")
        self._line.end(CallStatus(code=code.value[0], message=details, details=told))
        raise grpc.aio.AbortError

    async def serve(self) -> None:
        """Run the handler to its end, which is in the line's status."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._run()
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
            self._line.end(CallStatus(code=code, message="the deadline passed before the end"))
        except grpc.aio.AbortError:
            pass
        except Exception:
            log.exception("%s failed unexpectedly", self._method)
            code = grpc.StatusCode.INTERNAL.value[0]
            self._line.end(CallStatus(code=code, message="internal error"))
        else:
            self._line.end(CallStatus())

    async def _run(self) -> None:
        handler = self._handlers.find(self._method)
        if handler is None:
            await self.abort(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {self._method}")
        self._serialize, read = handler.response_serializer, handler.request_deserializer
        if handler.request_streaming:
            requests = (read(raw) async for raw in self._line.messages())
            await handler.stream_stream(requests, self)
            return
        raw = await self._line.take()
        if raw is None:
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is missing")
        if handler.response_streaming:
            await handler.unary_stream(read(raw), self)
        else:
            await self.write(await handler.unary_unary(read(raw), self))


def _packed(frames: list[CallFrame]) -> bytes:
    return CarryResponse(frames=frames).SerializeToString()
