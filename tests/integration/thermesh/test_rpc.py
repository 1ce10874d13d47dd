"""Errors, deadlines and traces cross a real connection."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from thermesh import errors, rpc
from thermesh.telemetry import current_traceparent
from thermesh.testing import eventually
from thermesh.v1 import feature_pb2, feature_pb2_grpc

SERVICE = "thermesh.v1.FeatureService"
BY_TRUNK = False


class Scripted(feature_pb2_grpc.FeatureServiceServicer):
    """Does what the test tells it to."""

    def __init__(self) -> None:
        self.raises: BaseException | None = None
        self.seen: dict[str, object] = {}
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.hang = False

    async def _act(self) -> None:
        self.seen["remaining"] = rpc.remaining_seconds()
        self.seen["traceparent"] = current_traceparent()
        self.entered.set()
        try:
            if self.hang:
                await asyncio.Event().wait()
        finally:
            self.left.set()
        if self.raises:
            raise self.raises

    async def Extract(self, request, context):
        await self._act()
        return feature_pb2.ExtractResponse(cached=True)

    async def ExtractStream(self, requests, context):
        async for _ in requests:
            await self._act()
            yield feature_pb2.ExtractStreamResponse(is_final=True)


@pytest.fixture(params=["call", "trunk"], autouse=True)
def by_trunk(request, monkeypatch):
    """Run every test with calls of their own and with calls on a trunk."""
    monkeypatch.setattr(sys.modules[__name__], "BY_TRUNK", request.param == "trunk")


@contextlib.asynccontextmanager
async def serving(servicer):
    server = rpc.Server("test", "127.0.0.1", 0, grace_seconds=0.1)
    server.add(feature_pb2_grpc.add_FeatureServiceServicer_to_server, servicer, SERVICE)
    port = await server.start()
    channel = rpc.connect(f"127.0.0.1:{port}", by_trunk=BY_TRUNK)
    try:
        if BY_TRUNK:
            channel.open_trunk()
            await eventually(lambda: channel.has_trunk, 10, "a trunk")
        yield feature_pb2_grpc.FeatureServiceStub(channel), channel, server
    finally:
        await channel.close()
        await server.drain()


@pytest.mark.parametrize("error_type", errors.ERRORS.values())
async def test_every_error_survives_the_wire(error_type):
    """Code, message, reason, field and retry delay arrive as they were raised."""
    servicer = Scripted()
    servicer.raises = error_type("say it", field="a.b", reason="WHY", retry_after=1.5)
    async with serving(servicer) as (stub, _, _):
        with pytest.raises(error_type) as caught, rpc.translated():
            await stub.Extract(feature_pb2.ExtractRequest())

    error = caught.value
    assert (error.message, error.field, error.reason, error.retry_after) == (
        "say it",
        "a.b",
        "WHY",
        1.5,
    )


async def test_an_unexpected_exception_leaks_nothing():
    """A bug becomes INTERNAL with a log id, without the exception's text."""
    servicer = Scripted()
    servicer.raises = RuntimeError("password=hunter2")
    async with serving(servicer) as (stub, _, _):
        with pytest.raises(errors.Internal) as caught, rpc.translated():
            await stub.Extract(feature_pb2.ExtractRequest())

    assert "hunter2" not in str(caught.value)
    assert caught.value.message.startswith("internal error, logged under id ")


async def test_a_peer_that_is_slow_to_shake_hands_is_reached():
    """A busy peer that accepts at once and answers a little later fails no call."""
    loop = asyncio.get_running_loop()
    async with serving(Scripted()) as (_, _, server):

        async def relay(reader, writer):
            awake = asyncio.Event()
            loop.call_later(0.25, awake.set)
            await awake.wait()
            to_server = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.gather(copy(reader, to_server[1]), copy(to_server[0], writer))

        slow = await asyncio.start_server(relay, "127.0.0.1", 0)
        channel = rpc.connect(f"127.0.0.1:{slow.sockets[0].getsockname()[1]}")
        stub = feature_pb2_grpc.FeatureServiceStub(channel)
        answer = await stub.Extract(feature_pb2.ExtractRequest(), timeout=10)
        await channel.close()
        slow.close()

    assert answer.cached


async def copy(reader, writer):
    """Pass on what arrives until the other side ends."""
    with contextlib.suppress(ConnectionError):
        while received := await reader.read(65_536):
            writer.write(received)
            await writer.drain()
    writer.close()


async def test_a_stream_ends_with_the_error_of_its_handler():
    """Errors in the middle of a stream come as its trailing status."""
    servicer = Scripted()
    servicer.raises = errors.ResourceExhausted("full", retry_after=0.25)

    async def requests():
        yield feature_pb2.ExtractStreamRequest()

    async with serving(servicer) as (stub, _, _):
        with pytest.raises(errors.ResourceExhausted) as caught, rpc.translated():
            async for _ in stub.ExtractStream(requests()):
                pass

    assert caught.value.retry_after == 0.25


async def test_a_dead_peer_is_unavailable_and_worth_a_retry():
    """A refused connection is translated with a retry delay."""
    channel = rpc.connect("127.0.0.1:1")
    stub = feature_pb2_grpc.FeatureServiceStub(channel)
    with pytest.raises(errors.Unavailable) as caught, rpc.translated():
        await stub.Extract(feature_pb2.ExtractRequest(), timeout=5)
    await channel.close()

    assert caught.value.retry_after == 1.0


async def test_the_deadline_reaches_the_handler_and_the_calls_it_makes():
    """A call made while serving another never outlives it."""

    class Relay(Scripted):
        stub = None

        async def Extract(self, request, context):
            if request.text == "relay":
                return await self.stub.Extract(feature_pb2.ExtractRequest(), timeout=60)
            return await super().Extract(request, context)

    servicer = Relay()
    async with serving(servicer) as (stub, _, _):
        servicer.stub = stub
        await stub.Extract(feature_pb2.ExtractRequest(text="relay"), timeout=5)

    assert 0 < servicer.seen["remaining"] < 6


async def test_the_trace_of_the_caller_goes_on_in_the_handler():
    """The server span is a child of the client's current span."""
    tracer = TracerProvider().get_tracer("test")
    servicer = Scripted()
    async with serving(servicer) as (stub, _, _):
        with tracer.start_as_current_span("client") as span:
            await stub.Extract(feature_pb2.ExtractRequest())
            trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    assert servicer.seen["traceparent"].split("-")[1] == trace_id


async def test_cancelling_a_call_cancels_its_handler():
    """A client that goes away leaves no handler behind."""
    servicer = Scripted()
    servicer.hang = True
    async with serving(servicer) as (stub, _, _):
        call = stub.Extract(feature_pb2.ExtractRequest())
        waiting = asyncio.ensure_future(call)
        await servicer.entered.wait()
        call.cancel()
        await asyncio.wait_for(servicer.left.wait(), 30)
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    assert call.cancelled()


class Impatient(feature_pb2_grpc.FeatureServiceServicer):
    """Stops reading before the client has said all."""

    async def ExtractStream(self, requests, context):
        reading = asyncio.ensure_future(anext(requests))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        yield feature_pb2.ExtractStreamResponse(is_final=True)


async def test_a_read_that_nobody_waits_for_ends_with_its_call():
    """Cancelled within gRPC, it would cost memory for ever; left alone, no task stays."""
    async with serving(Impatient()) as (stub, _, _):
        before = asyncio.all_tasks()
        silent = asyncio.Event()

        async def never():
            await silent.wait()
            yield feature_pb2.ExtractStreamRequest()

        call = stub.ExtractStream(never())
        assert [answer.is_final async for answer in call] == [True]
        silent.set()
        await eventually(lambda: not asyncio.all_tasks() - before, what="no task of the call")


async def test_health_and_reflection_answer():
    """Standard tools find out what is served and whether it is well."""
    async with serving(Scripted()) as (_, channel, server):
        check = health_pb2_grpc.HealthStub(channel).Check
        well = await check(health_pb2.HealthCheckRequest(service=SERVICE))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        async for answer in stub.ServerReflectionInfo(iter([request])):
            listed = {service.name for service in answer.list_services_response.service}
        await server.set_serving(False)
        serving_now = await rpc.is_serving(channel, SERVICE)

    assert well.status == health_pb2.HealthCheckResponse.SERVING
    assert {SERVICE, "grpc.health.v1.Health"} <= listed
    assert serving_now is False


async def test_a_taken_port_is_a_clear_error():
    """Two servers on one port do not silently share it."""
    async with serving(Scripted()) as (_, _, server):
        second = rpc.Server("second", "127.0.0.1", server.port)
        with pytest.raises(errors.Unavailable, match=f"127.0.0.1:{server.port}"):
            await second.start()


async def test_the_option_keys_are_the_ones_grpc_knows():
    """The keepalive key without the `recv` typo is set, so silent streams live."""
    keys = {key for key, _ in rpc.SERVER_OPTIONS}

    assert "grpc.http2.min_ping_interval_without_data_ms" in keys
    assert not any("recv_ping" in key for key in keys)


def test_status_codes_map_to_grpc_and_http_without_gaps():
    """Every code has a gRPC status and an HTTP status."""
    assert {code.name for code in errors.Code} <= {code.name for code in grpc.StatusCode}
    assert all(400 <= code.http_status < 600 for code in errors.Code)


async def test_a_server_that_does_not_stop_is_left(monkeypatch):
    """The end of a process does not depend on what is below."""
    server = rpc.Server("test", "127.0.0.1", 0, grace_seconds=0.0)
    await server.start()
    stop = server._server.stop

    async def never(grace):
        await asyncio.Event().wait()

    monkeypatch.setattr(server._server, "stop", never)
    monkeypatch.setattr(rpc, "STOPPING_SECONDS", 0.05)
    await server.drain()
    await stop(0)
