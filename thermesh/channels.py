"""Channels to rooms: calls carry deadline and trace on, and share a trunk where one is open.

Python's gRPC forwards neither deadline nor trace from a call being served to the
calls made for it; see `interceptors` for the other direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import grpc
from opentelemetry import propagate

from thermesh.interceptors import remaining_seconds
from thermesh.trunk.calling import Trunk
from thermesh.trunk.method import StreamCall, TrunkMethod, UnaryCall

_MESH = "/thermesh."
"""What goes by a trunk; health and reflection are about the connection itself."""


def _outgoing(
    timeout: float | None, metadata: Any
) -> tuple[float | None, tuple[tuple[str, str | bytes], ...]]:
    """Return the timeout and metadata of a call, with the time left and the current trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    sent = tuple(metadata or ())
    named = {key for key, _ in sent}
    trace_of_call = ((key, value) for key, value in carrier.items() if key not in named)
    limits = [limit for limit in (timeout, remaining_seconds()) if limit is not None]
    return min(limits) if limits else None, (*sent, *trace_of_call)


class ForwardingChannel(grpc.aio.Channel):
    """A channel whose calls carry on deadline and trace of the call that is being served.

    No interceptor of grpc.aio: one wraps each call in another call, with a task to begin
    it and a generator between every message and its reader. With `by_trunk` calls of one
    response and calls of two streams share one stream; see `trunk`.
    """

    def __init__(self, channel: grpc.aio.Channel, *, by_trunk: bool = False) -> None:
        self._channel = channel
        self._trunk = Trunk(channel) if by_trunk else None

    def unary_unary(self, path: str, *arguments: Any, **options: Any) -> Any:
        """Return the method, to be called with a request."""
        plain = self._channel.unary_unary(path, *arguments, **options)
        return self._method(UnaryCall, path, plain, **options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return the method, to be called with a request."""
        return _forwarding(self._channel.unary_stream(*arguments, **options))

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return the method, to be called with an iterator of requests."""
        return _forwarding(self._channel.stream_unary(*arguments, **options))

    def stream_stream(self, path: str, *arguments: Any, **options: Any) -> Any:
        """Return the method, to be called with an iterator of requests."""
        plain = self._channel.stream_stream(path, *arguments, **options)
        return self._method(StreamCall, path, plain, **options)

    @property
    def has_trunk(self) -> bool:
        """Whether new calls share a stream now."""
        return self._trunk is not None and self._trunk.is_open

    def open_trunk(self) -> None:
        """Open the trunk before the first call does, where there is to be one."""
        if self._trunk is not None:
            self._trunk.keep()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls on it must be over."""
        if self._trunk is not None:
            await self._trunk.close()
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return how the connection is."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the connection is otherwise."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return once there is a connection."""
        await self._channel.channel_ready()

    def _method(
        self,
        call: type[UnaryCall | StreamCall],
        path: str,
        plain: Any,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        **_: Any,
    ) -> Any:
        if self._trunk is None or not path.startswith(_MESH):
            return _forwarding(plain)
        method = TrunkMethod(
            self._trunk,
            path,
            plain,
            call=call,
            serialize=request_serializer,
            deserialize=response_deserializer,
        )
        return _forwarding(method)


def _forwarding(method: Any) -> Callable[..., Any]:
    def call(
        request: Any = None, *, timeout: float | None = None, metadata: Any = None, **options: Any
    ) -> Any:
        timeout, metadata = _outgoing(timeout, metadata)
        return method(request, timeout=timeout, metadata=metadata, **options)

    return call
