"""What all neighbours share: a channel, a breaker, counted failures, one log line per change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import grpc

from services.gateway.breaker import Breaker
from services.gateway.observability.instruments import Instruments
from thermesh.clock import Clock
from thermesh.errors import Code, MeshError, Unavailable
from thermesh.rpc import is_serving, left_to_end, translated

log = logging.getLogger(__name__)

# What the neighbour answers when it is well and the request is not.
CALLERS_FAULT = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.FAILED_PRECONDITION,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
        Code.ABORTED,
        Code.RESOURCE_EXHAUSTED,
        Code.CANCELLED,
    }
)

BRIEF_SECONDS = 0.5
"""A call with such a timeout is left to it by a caller that is cancelled; see `left_to_end`."""

Message = TypeVar("Message")


class UnaryCall(Protocol):
    """What a stub's method is, as far as it is used here."""

    def __call__(self, request: Any, /, *, timeout: float) -> Any:
        """Begin the call."""
        ...


class Peer:
    """One neighbour. `name` is its room, for counters and logs."""

    def __init__(
        self,
        name: str,
        channel: grpc.aio.Channel,
        instruments: Instruments,
        clock: Clock,
    ) -> None:
        self.name = name
        self.channel = channel
        self._instruments = instruments
        self._breaker = Breaker(clock)

    async def call(
        self,
        method: UnaryCall,
        request: Any,
        timeout: float,
        read: Callable[[Any], Message],
    ) -> Message:
        """Call once and return the answer read; raise MeshError and count it otherwise."""
        call = method(request, timeout=timeout)
        is_brief = timeout <= BRIEF_SECONDS
        try:
            with translated():
                answer = read(await (left_to_end(call) if is_brief else call))
        except MeshError as error:
            self.failed(error)
            raise
        finally:
            if not is_brief:
                call.cancel()
        self.answered()
        return answer

    def check_allowed(self) -> None:
        """Raise Unavailable while the neighbour is left alone."""
        if self._breaker.allows():
            return
        self._instruments.hop_failed(self.name, "skipped")
        raise Unavailable(f"{self.name} is away", retry_after=1.0)

    def answered(self) -> None:
        """Take note that the neighbour lives."""
        if self._breaker.succeed():
            log.info("%s is back", self.name)

    def failed(self, error: MeshError) -> None:
        """Take note of a failed call; only failures of the neighbour open the breaker."""
        self._instruments.hop_failed(self.name, error.code.name.lower())
        if error.code in CALLERS_FAULT:
            self.answered()
        elif self._breaker.fail():
            log.warning("%s is away (%s); going on without it", self.name, error.code.name)

    async def is_serving(self, timeout: float) -> bool:
        """Ask the neighbour's health service."""
        return await is_serving(self.channel, timeout=timeout)

    async def close(self) -> None:
        """Close the channel; calls on it must be over."""
        await self.channel.close()
