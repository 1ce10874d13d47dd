"""What stubs call: methods whose calls go by the trunk while it is open, else as their own.

The part of grpc.aio's interface that the mesh uses: a unary call is awaited and cancelled, a
stream is iterated and cancelled. Errors are grpc.aio.AioRpcError, as without a trunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Sequence
from typing import Any

import grpc

from thermesh.errors import ResourceExhausted
from thermesh.trunk.calling import Trunk
from thermesh.trunk.line import Line
from thermesh.v1.trunk_pb2 import CallMetadata, CallOpening, CallStatus

STATUS_DETAILS = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CANCELLED = CallStatus(code=grpc.StatusCode.CANCELLED.value[0], message="cancelled by the caller")
_LATE = CallStatus(
    code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0], message="the deadline passed before the end"
)
_TOO_LONG = CallStatus(
    code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="a message is too long"
)


class TrunkMethod:
    """One method of a stub: `plain` is how it is called without a trunk."""

    def __init__(
        self,
        trunk: Trunk,
        path: str,
        plain: Callable[..., Any],
        *,
        call: type[UnaryCall | StreamCall],
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
    ) -> None:
        self._trunk = trunk
        self._path = path
        self._plain = plain
        self._call = call
        self.serialize = serialize
        self.deserialize = deserialize

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Any = None, **options: Any
    ) -> Any:
        """Begin a call."""
        self._trunk.keep()
        if not self._trunk.is_open:
            return self._plain(request, timeout=timeout, metadata=metadata, **options)
        line = self._trunk.begin(_opening(self._path, timeout, metadata or ()))
        return self._call(self._trunk, line, self, request, timeout)


class _Call:
    """What both kinds share: the line, its deadline, and its end."""

    def __init__(
        self, trunk: Trunk, line: Line, method: TrunkMethod, timeout: float | None
    ) -> None:
        self._trunk = trunk
        self._line = line
        self._method = method
        loop = asyncio.get_running_loop()
        self._expiry = None if timeout is None else loop.call_later(timeout, self._end, _LATE)

    def cancel(self) -> None:
        """End the call; harmless when it is over."""
        self._end(_CANCELLED)

    def cancelled(self) -> bool:
        """Tell whether the caller ended the call."""
        return self._line.status is _CANCELLED

    async def _take(self) -> Any:
        """Return the next message, or raise what the call ended with; None where it went well."""
        raw = await self._line.take()
        if raw is not None:
            return self._method.deserialize(raw)
        self._settle()
        status = self._line.status
        if status is _CANCELLED:
            raise asyncio.CancelledError
        if status is None or status.code:
            raise _error(status)
        return None

    def _end(self, status: CallStatus) -> None:
        self._settle()
        self._trunk.cancel(self._line, status)

    def _settle(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()


class UnaryCall(_Call):
    """One request, one response; await it once."""

    leaves_nothing = True
    """Of it in gRPC when it is cancelled; see `endings`."""

    def __init__(
        self, trunk: Trunk, line: Line, method: TrunkMethod, request: Any, timeout: float | None
    ) -> None:
        super().__init__(trunk, line, method, timeout)
        try:
            line.send_now(method.serialize(request))
        except ResourceExhausted:
            self._end(_TOO_LONG)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        try:
            answer = await self._take()
            await self._take()  # the status, which comes with it
        except asyncio.CancelledError:
            self.cancel()
            raise
        return answer


class StreamCall(_Call):
    """A stream of requests from an iterator, a stream of responses to be iterated."""

    def __init__(
        self,
        trunk: Trunk,
        line: Line,
        method: TrunkMethod,
        requests: AsyncIterable[Any],
        timeout: float | None,
    ) -> None:
        super().__init__(trunk, line, method, timeout)
        sending = asyncio.create_task(self._send(requests), name="trunk-call")
        self._sending: asyncio.Task[None] | None = sending

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self._take()
        if message is None:
            raise StopAsyncIteration
        return message

    async def _send(self, requests: AsyncIterable[Any]) -> None:
        try:
            async for message in requests:
                await self._line.send(self._method.serialize(message))
        except ResourceExhausted:
            self._end(_TOO_LONG)
        self._trunk.half_close(self._line)

    def _settle(self) -> None:
        super()._settle()
        if self._sending is not None:
            self._sending.cancel()
            # A cancelled task keeps its traceback, which knows this call: a circle of some
            # forty objects a request, which the garbage collector stops every stream for.
            self._sending = None


def _opening(path: str, timeout: float | None, metadata: Sequence[tuple[str, str]]) -> CallOpening:
    return CallOpening(
        method=path,
        timeout_us=0 if timeout is None else max(1, round(timeout * 1e6)),
        metadata=[CallMetadata(name=name, value=value) for name, value in metadata],
    )


def _error(status: CallStatus | None) -> grpc.aio.AioRpcError:
    if status is None:
        return grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "no status came"
        )
    trailing = grpc.aio.Metadata()
    if status.details:
        trailing.add(STATUS_DETAILS, status.details)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, status.message)
