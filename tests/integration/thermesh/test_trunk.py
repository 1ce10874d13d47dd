"""Many calls share one stream, and each is as it would be alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import grpc
import pytest

from thermesh import errors, rpc
from thermesh.testing import eventually, free_port
from thermesh.trunk import local
from thermesh.trunk.line import MOST_MESSAGE_BYTES, WINDOW_BYTES
from thermesh.v1 import feature_pb2, feature_pb2_grpc

SERVICE = "thermesh.v1.FeatureService"
KIBIBYTE = [0.0] * 256


class Talker(feature_pb2_grpc.FeatureServiceServicer):
    """Answers `Extract`, and talks on `ExtractStream` as long as it is let."""

    def __init__(self) -> None:
        self.said = 0
        self.go = asyncio.Event()
        self.left = asyncio.Event()

    async def Extract(self, request, context):
        if request.text == "wait":
            try:
                await self.go.wait()
            finally:
                self.left.set()
        return feature_pb2.ExtractResponse(cached=True)

    async def ExtractStream(self, requests, context):
        start = await anext(aiter(requests))
        for _ in range(int(start.start.text)):
            self.said += 1
            features = feature_pb2.FeatureVector(values=KIBIBYTE)
            yield feature_pb2.ExtractStreamResponse(features=features)


def asked(count):
    """A request that asks for so many messages of a kibibyte."""

    async def requests():
        start = feature_pb2.ExtractRequest(text=str(count))
        yield feature_pb2.ExtractStreamRequest(start=start)

    return requests()


async def started(servicer, port=0, **options):
    """A server and the port it listens on."""
    server = rpc.Server("test", "127.0.0.1", port, grace_seconds=5, **options)
    server.add(feature_pb2_grpc.add_FeatureServiceServicer_to_server, servicer, SERVICE)
    return server, await server.start()


@pytest.fixture(
    autouse=True,
    params=[
        pytest.param(True, id="socket"),
        pytest.param(False, id="stream", marks=pytest.mark.slow),
    ],
)
def way(request, monkeypatch):
    """Frames go by a socket of this machine, or by gRPC's stream, as between two machines."""
    monkeypatch.setattr(local, "IS_POSSIBLE", request.param and local.IS_POSSIBLE)
    return request.param


@contextlib.asynccontextmanager
async def connected(port, *, opened=True):
    """A stub over a channel whose trunk is open, and the channel."""
    channel = rpc.connect(f"127.0.0.1:{port}", by_trunk=True)
    try:
        channel.open_trunk()
        if opened:
            await eventually(lambda: channel.has_trunk, what="an open trunk")
        yield feature_pb2_grpc.FeatureServiceStub(channel), channel
    finally:
        await channel.close()


@contextlib.asynccontextmanager
async def talking():
    """A talker, a stub for it, its server and the channel."""
    servicer = Talker()
    server, port = await started(servicer)
    async with connected(port) as (stub, channel):
        yield servicer, stub, server, channel
    await server.drain()


async def test_a_slow_reader_stops_its_own_call_only():
    """Behind a full window the server waits; other calls go on, and so does it once it is read."""
    async with talking() as (servicer, stub, _, _):
        call = stub.ExtractStream(asked(300))
        await anext(aiter(call))
        await eventually(lambda: servicer.said * 1024 > WINDOW_BYTES // 2, what="a full window")
        for _ in range(20):
            assert (await stub.Extract(feature_pb2.ExtractRequest())).cached
        held = servicer.said
        rest = [len(answer.features.values) async for answer in call]
    assert held * 1024 <= WINDOW_BYTES + 2 * 1024
    assert rest == [256] * 299


async def test_calls_that_are_made_together_are_answered_together():
    """Hundreds of calls at once each get their own answer."""
    async with talking() as (_, stub, _, _):
        calls = [stub.Extract(feature_pb2.ExtractRequest()) for _ in range(300)]
        streams = [stub.ExtractStream(asked(count)) for count in range(20)]
        answers = await asyncio.gather(*calls)
        counts = [len([answer async for answer in stream]) for stream in streams]
    assert all(answer.cached for answer in answers)
    assert counts == list(range(20))


async def test_a_call_that_was_left_is_forgotten_at_once():
    """Without the garbage collector, which would stop every stream to find it."""

    async def endless():
        yield feature_pb2.ExtractStreamRequest(start=feature_pb2.ExtractRequest(text="1"))
        await asyncio.Event().wait()

    async with talking() as (_, stub, _, _):
        call = stub.ExtractStream(endless())
        await anext(aiter(call))
        call.cancel()
        known = weakref.ref(call)
        gc.disable()
        try:
            del call
            await eventually(lambda: known() is None, what="nothing that knows the call")
        finally:
            gc.enable()


async def test_a_call_that_is_late_is_told_so_and_its_handler_ends():
    """A deadline means what it means to gRPC."""
    async with talking() as (servicer, stub, _, _):
        with pytest.raises(errors.DeadlineExceeded), rpc.translated():
            await stub.Extract(feature_pb2.ExtractRequest(text="wait"), timeout=0.05)
        await asyncio.wait_for(servicer.left.wait(), 30)


async def test_a_message_that_is_too_long_fails_its_call_only():
    """The trunk and what else is on it stay."""
    async with talking() as (_, stub, _, channel):
        long = feature_pb2.ExtractRequest(text="x" * MOST_MESSAGE_BYTES)
        with pytest.raises(errors.ResourceExhausted), rpc.translated():
            await stub.Extract(long)
        assert (await stub.Extract(feature_pb2.ExtractRequest())).cached
        assert channel.has_trunk


async def test_a_method_that_is_not_served_is_unimplemented():
    """As without a trunk."""
    async with talking() as (_, _, _, channel):
        call = channel.unary_unary(
            f"/{SERVICE}/Nothing",
            request_serializer=feature_pb2.ExtractRequest.SerializeToString,
            response_deserializer=feature_pb2.ExtractResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(feature_pb2.ExtractRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_that_stops_lets_calls_end_and_takes_no_more():
    """Draining waits for the call under way, then the trunk ends."""
    async with talking() as (servicer, stub, server, channel):
        waiting = asyncio.ensure_future(stub.Extract(feature_pb2.ExtractRequest(text="wait")))
        assert (await stub.Extract(feature_pb2.ExtractRequest())).cached
        draining = asyncio.create_task(server.drain())
        await eventually(lambda: server._trunks._is_draining, what="a draining server")
        servicer.go.set()
        assert (await waiting).cached
        await draining
        await eventually(lambda: not channel.has_trunk, what="the end of the trunk")


async def test_calls_end_with_a_trunk_that_is_lost_and_a_new_one_is_opened():
    """UNAVAILABLE, as where a connection is lost; the next server gets a trunk of its own."""
    servicer, port = Talker(), free_port()
    server, _ = await started(servicer, port)
    server.grace_seconds = 0.0
    async with connected(port) as (stub, channel):
        waiting = asyncio.ensure_future(stub.Extract(feature_pb2.ExtractRequest(text="wait")))
        assert (await stub.Extract(feature_pb2.ExtractRequest())).cached
        await server.drain()
        with pytest.raises(errors.Unavailable), rpc.translated():
            await waiting
        await eventually(lambda: not channel.has_trunk, what="the end of the trunk")
        server, _ = await started(servicer, port)
        await eventually(lambda: channel.has_trunk, what="a new trunk")
        assert (await stub.Extract(feature_pb2.ExtractRequest())).cached
    await server.drain()


async def test_a_server_without_trunks_is_called_as_any():
    """Who offers none, such as an older room, loses nothing."""
    server, port = await started(Talker(), carries_trunks=False)
    async with connected(port, opened=False) as (stub, channel):
        for _ in range(3):
            assert (await stub.Extract(feature_pb2.ExtractRequest())).cached
        counts = [len([one async for one in stub.ExtractStream(asked(5))])]
        assert not channel.has_trunk
    await server.drain()
    assert counts == [5]
