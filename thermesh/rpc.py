"""The only grpc.aio plumbing: serve, connect, drain.

Option keys are spelled as in grpc's channel_arg_names.h: gRPC ignores unknown
keys silently, and the misspelt `min_recv_ping_interval_without_data_ms` lets
servers kill idle streams after a few pings (vllm-project/vllm#55102).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from thermesh import errors, tls
from thermesh.channels import ForwardingChannel
from thermesh.endings import left_to_end
from thermesh.interceptors import ServerInterceptor, remaining_seconds, translated
from thermesh.process import settle_memory
from thermesh.settings import from_env
from thermesh.trunk.serving import Handlers, Trunks
from thermesh.v1 import trunk_pb2_grpc

__all__ = [
    "Server",
    "connect",
    "connect_with",
    "is_serving",
    "left_to_end",
    "remaining_seconds",
    "room_door",
    "translated",
]

log = logging.getLogger(__name__)

# At DEBUG it tells of a server that is freed while it runs, and the record holds that server:
# who keeps the record keeps freed memory, and a later garbage collection crashes.
logging.getLogger("grpc._cython.cygrpc").setLevel(logging.INFO)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024

SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Two processes on one port would each get some of the calls.
    ("grpc.so_reuseport", 0),
)
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This one is how long an attempt to connect may take: on a busy machine a
    # handshake needs more than 100 ms. A refused one is tried again sooner.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # While it pauses calls fail at once: a room that is there again is found this soon.
    ("grpc.max_reconnect_backoff_ms", 500),
    # A stalled reader must not hold megabytes of tokens in flight.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16_384),
)


def connect(target: str, *, by_trunk: bool = False) -> ForwardingChannel:
    """Return a channel to a room at `target`, by TLS where `THERMESH_TLS` says so.

    It forwards deadline and trace, connects on first use and again by itself. `by_trunk`
    is for who has many calls under way: they share one stream. Close it with
    `await channel.close()`, after the calls on it were cancelled.
    Raises BadSetting where a certificate that TLS needs cannot be read.
    """
    trust = tls.room_trust(from_env(tls.TlsConfig))
    return ForwardingChannel(_channel(target, trust), by_trunk=by_trunk)


def connect_with(target: str, trust: tls.Trust | None) -> grpc.aio.Channel:
    """Return a channel like `connect` does, to a server that `trust` checks (None: plaintext)."""
    return ForwardingChannel(_channel(target, trust))


def _channel(target: str, trust: tls.Trust | None) -> grpc.aio.Channel:
    if trust is None:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    options = (*CHANNEL_OPTIONS, *trust.options())
    return grpc.aio.secure_channel(target, trust.credentials(), options=options)


async def is_serving(channel: grpc.aio.Channel, service: str = "", timeout: float = 1.0) -> bool:
    """Ask grpc.health.v1 whether `service` (empty: the whole server) is serving."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


STOPPING_SECONDS = 3.0
"""How long after its grace a server may take to stop."""


class Server:
    """A gRPC server with health, reflection, the interceptor and a graceful end.

    `grace_seconds` is how long open calls may go on after `drain` began. `door` is
    what it proves itself with (None: plaintext); see `room_door`. Other rooms may
    open trunks to it unless told otherwise; see `trunk`.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        grace_seconds: float = 10.0,
        door: tls.Door | None = None,
        *,
        carries_trunks: bool = True,
    ) -> None:
        self.name = name
        self._door = door
        self.host = host
        self.port = port
        self.grace_seconds = grace_seconds
        interceptor = ServerInterceptor()
        self._server = grpc.aio.server(interceptors=[interceptor], options=SERVER_OPTIONS)
        self._handlers = Handlers(interceptor.wrapped)
        self._trunks = Trunks(self._handlers) if carries_trunks else None
        self._health = health.aio.HealthServicer()
        self._services: list[str] = []
        self.draining = asyncio.Event()
        """Set as `drain` begins; calls that have no end of their own end then."""

    def add(self, adder: Callable[[Any, Any], None], servicer: Any, service: str) -> None:
        """Serve `servicer` through its generated `add_..._to_server` function.

        `service` is the full name, e.g. `thermesh.v1.FeatureService`.
        """
        adder(servicer, self._server)
        adder(servicer, self._handlers)
        self._services.append(service)

    async def start(self) -> int:
        """Bind, serve, and return the port (chosen by the system where it was 0).

        Raises Unavailable where the address is taken.
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._trunks is not None:
            trunk_pb2_grpc.add_TrunkServiceServicer_to_server(self._trunks, self._server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            self.port = self._bind(f"{self.host}:{self.port}")
        except RuntimeError as error:
            address = f"{self.host}:{self.port}"
            raise errors.Unavailable(f"{self.name} cannot listen on {address}") from error
        if self._trunks is not None:
            self._trunks.listen()
        await self._server.start()
        await self.set_serving(True)
        log.info("%s serves gRPC on %s:%d", self.name, self.host, self.port)
        return self.port

    def _bind(self, address: str) -> int:
        if self._door is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, self._door.credentials()))

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether new calls are welcome."""
        names = health_pb2.HealthCheckResponse.ServingStatus
        status = names.SERVING if serving else names.NOT_SERVING
        for service in ("", *self._services):
            await self._health.set(service, status)

    async def drain(self) -> None:
        """Refuse new calls, let open ones end within the grace, then stop.

        Returns soon after the grace whatever becomes of the server below: what supervises
        a process counts on its end.
        """
        try:
            async with asyncio.timeout(self.grace_seconds + STOPPING_SECONDS):
                self.draining.set()
                await self._health.enter_graceful_shutdown()
                if self._trunks is not None:
                    self._trunks.drain()
                await self._server.stop(self.grace_seconds)
                if self._trunks is not None:
                    await self._trunks.close()
        except TimeoutError:
            log.warning("%s: the gRPC server did not stop in time and is left", self.name)

    async def run_until_signal(self) -> None:
        """Wait for SIGTERM or SIGINT, then drain."""
        await until_signal()
        log.info("%s drains for at most %.0f s", self.name, self.grace_seconds)
        await self.drain()


def room_door() -> tls.Door | None:
    """Return what a room of the mesh serves with, by the environment; see `thermesh.tls`."""
    return tls.room_door(from_env(tls.TlsConfig))


async def until_signal() -> None:
    """Return when the process is asked to end by SIGTERM or SIGINT."""
    settle_memory()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
