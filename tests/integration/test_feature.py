"""The feature service over real gRPC with a real Redis, whole and with parts taken away."""

import contextlib
import functools
import time

import grpc
import numpy as np
import pytest

from services.feature import house as house_module
from services.feature.config import Config
from services.feature.encoding import Encoding
from services.feature.server import SERVICE, FeatureService
from services.feature.store import RedisStore
from thermesh import features
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.rpc import Server, connect, is_serving, translated
from thermesh.testing import eventually, redis_server
from thermesh.v1 import common_pb2, feature_pb2_grpc
from thermesh.v1.feature_pb2 import (
    DescribeFeaturesRequest,
    EmbedRequest,
    ExtractRequest,
    ExtractStreamRequest,
    PartialText,
)

BUDGET_MS = 500.0


class FakeEncoder:
    """An encoder without a model: the direction of a text is its length."""

    name = "fake"
    dimensions = 2
    depth = 1

    def count(self, text):
        """Words stand for tokens."""
        return len(text.split())

    def encode(self, text):
        angle = float(len(text))
        return Encoding(np.array([np.cos(angle), np.sin(angle)], np.float32), 0.25, 0.5, 0.125)


@contextlib.asynccontextmanager
async def running_service(redis_url):
    """Serve on a free port and yield (stub, channel)."""
    config = Config(port=0, redis_url=redis_url, budget_ms=BUDGET_MS)
    house = house_module.build(config)
    servicer = FeatureService(house.reader, house.embedder, house.metrics, config.budget_ms / 1000)
    server = Server("feature", config.host, config.port, grace_seconds=1.0)
    server.add(feature_pb2_grpc.add_FeatureServiceServicer_to_server, servicer, SERVICE)
    port = await server.start()
    channel = connect(f"127.0.0.1:{port}")
    try:
        yield feature_pb2_grpc.FeatureServiceStub(channel), channel
    finally:
        await channel.close()
        await server.drain()
        await house.close()


@pytest.fixture
def patient_redis(monkeypatch):
    """What Redis costs a busy machine is for the benchmarks; here its answers are awaited."""
    patient = functools.partial(RedisStore, timeout_seconds=10.0)
    monkeypatch.setattr(house_module, "RedisStore", patient)


@pytest.fixture(scope="module")
def shared_redis():
    with redis_server() as server:
        yield server


@pytest.fixture
def fake_encoder(monkeypatch):
    monkeypatch.setattr(house_module, "load_encoder", lambda _config: FakeEncoder())


@pytest.fixture
async def stub(shared_redis, fake_encoder):
    async with running_service(shared_redis.url) as (stub, _):
        yield stub


def value(answer, name):
    return answer.features.values[features.INDEX[name]]


def test_a_room_that_serves_has_read_before(shared_redis, monkeypatch):
    """Its first request finds an encoder that has run, for short texts and long ones."""
    lengths = []

    class Counting(FakeEncoder):
        def encode(self, text):
            lengths.append(self.count(text))
            return super().encode(text)

    monkeypatch.setattr(house_module, "load_encoder", lambda _config: Counting())
    house_module.build(Config(port=0, redis_url=shared_redis.url))

    assert min(lengths) < 8
    assert max(lengths) > 48


async def test_extract_answers_with_the_whole_vector(stub):
    """Version, order, task and confidence are there; the second reading is cached."""
    request = ExtractRequest(text="What is the capital of Peru?")
    first = await stub.Extract(request)
    assert first.features.schema_version == features.SCHEMA_VERSION
    assert len(first.features.values) == len(features.FEATURES)
    assert first.features.encoder_used
    assert common_pb2.Task.Name(first.features.task) == "TASK_QUESTION_ANSWERING"
    assert 0.0 < first.features.task_confidence <= 1.0

    async def is_cached():
        second = await stub.Extract(request)
        assert second.features == first.features
        return second.cached

    await eventually(is_cached)


async def test_replicas_share_cache_and_sessions(shared_redis, fake_encoder, patient_redis):
    """What one replica read and whom it talked to, the other knows through Redis."""
    context = common_pb2.RequestContext(session_id="shared-talk")
    async with running_service(shared_redis.url) as (first, _):
        await first.Extract(ExtractRequest(text="one turn", context=context))
    async with running_service(shared_redis.url) as (second, _):
        assert (await second.Extract(ExtractRequest(text="one turn"))).cached
        answer = await second.Extract(ExtractRequest(text="another turn", context=context))
        assert value(answer, "topic_shift") > 0.0


async def test_describe_features_lists_the_schema(stub):
    """A client learns names and ranges from the service."""
    described = await stub.DescribeFeatures(DescribeFeaturesRequest())
    assert [feature.name for feature in described.features] == list(features.INDEX)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ExtractRequest(), "text"),
        (ExtractRequest(text="x" * ((1 << 20) + 1)), "text"),
        (
            ExtractRequest(text="x", context=common_pb2.RequestContext(session_id="no spaces")),
            "context.session_id",
        ),
    ],
)
async def test_bad_requests_name_their_field_over_the_wire(stub, request_, field):
    """INVALID_ARGUMENT with the field, and the service goes on."""
    with pytest.raises(InvalidArgument) as refused, translated():
        await stub.Extract(request_)
    assert refused.value.field == field
    assert (await stub.Extract(ExtractRequest(text="fine"))).features.values


async def test_the_largest_text_is_answered(stub):
    """Exactly 1 MiB is allowed and costs no more than its first part."""
    answer = await stub.Extract(ExtractRequest(text="word " * ((1 << 20) // 5)))
    assert value(answer, "length") == 1.0


async def test_a_stream_ends_with_the_vector_of_its_final_text(stub):
    """Every answer comes in order, the last one for the last text."""
    call = stub.ExtractStream()
    try:
        await call.write(ExtractStreamRequest(start=ExtractRequest()))
        for text in ("what", "what is", "what is two"):
            await call.write(ExtractStreamRequest(partial=PartialText(text=text)))
        final = PartialText(text="what is two plus two", is_final=True)
        await call.write(ExtractStreamRequest(partial=final))
        await call.done_writing()
        answers = [answer async for answer in call]
    finally:
        call.cancel()
    assert 1 <= len(answers) <= 4
    assert [answer.is_final for answer in answers] == [False] * (len(answers) - 1) + [True]
    words = np.expm1(value(answers[-1], "length") * np.log(4097))
    assert words == pytest.approx(5, abs=1e-3)


async def test_a_stream_answers_while_it_is_open(stub):
    """A partial is answered before the next is sent."""
    call = stub.ExtractStream()
    try:
        await call.write(ExtractStreamRequest(start=ExtractRequest(text="hello")))
        assert not (await call.read()).is_final
        await call.write(ExtractStreamRequest(partial=PartialText(text="hello you")))
        assert (await call.read()).features.encoder_used
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    finally:
        call.cancel()


async def test_a_stream_in_wrong_order_is_refused(stub):
    """The error says what must come first."""
    call = stub.ExtractStream()
    try:
        await call.write(ExtractStreamRequest(partial=PartialText(text="x")))
        with pytest.raises(FailedPrecondition) as refused, translated():
            await call.read()
    finally:
        call.cancel()
    assert refused.value.field == "start"


@pytest.mark.parametrize("harm", ["stop", "pause"])
@pytest.mark.slow
async def test_redis_away_costs_no_answer(redis, fake_encoder, harm):
    """Killed or frozen: every reading is answered, and it heals by itself."""
    async with running_service(redis.url) as (stub, _):
        await stub.Extract(ExtractRequest(text="warm"))
        getattr(redis, harm)()
        for turn in range(20):
            context = common_pb2.RequestContext(session_id="talk")
            answer = await stub.Extract(ExtractRequest(text=f"turn {turn}", context=context))
            assert len(answer.features.values) == len(features.FEATURES)
        getattr(redis, {"stop": "start", "pause": "resume"}[harm])()
        await eventually(lambda: _is_shared_again(redis.url, stub), 30, "recovery")


async def _is_shared_again(url, stub):
    """Read a new text here, then ask a second replica whether it finds it."""
    text = f"after the outage {time.monotonic()}"
    await stub.Extract(ExtractRequest(text=text))
    async with running_service(url) as (other, _):
        return (await other.Extract(ExtractRequest(text=text))).cached


async def test_a_redis_that_was_never_there_is_no_reason_not_to_start(fake_encoder):
    """The service is healthy and answers."""
    async with running_service("redis://127.0.0.1:1/0") as (stub, channel):
        assert await is_serving(channel, SERVICE)
        assert (await stub.Extract(ExtractRequest(text="hello"))).features.encoder_used


@pytest.mark.model
@pytest.mark.slow
async def test_the_real_encoder_behind_the_wire(shared_redis):
    """With the packaged model the vector is whole and questions are told from stories."""
    async with running_service(shared_redis.url) as (stub, _):

        async def task_of(text):
            await eventually(lambda: _is_encoded(stub, text), 30, "the encoder")
            return common_pb2.Task.Name(
                (await stub.Extract(ExtractRequest(text=text))).features.task
            )

        assert await task_of("Who was the first person on the moon?") == "TASK_QUESTION_ANSWERING"
        assert await task_of("Tell me a tale of two dragons.") == "TASK_GENERATION"


async def _is_encoded(stub, text):
    return (await stub.Extract(ExtractRequest(text=text))).features.encoder_used


@pytest.mark.model
@pytest.mark.slow
async def test_embeddings_are_alike_where_meanings_are(shared_redis):
    """With the packaged model: length one, the same each time, nearer to what is meant alike."""
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Taxes rise in spring."]
    async with running_service(shared_redis.url) as (stub, _):
        first = await stub.Embed(EmbedRequest(texts=texts), timeout=60)
        again = await stub.Embed(EmbedRequest(texts=texts, model=first.model), timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Embed(EmbedRequest(texts=["a", ""]))

    def alike(one, other):
        pairs = zip(first.embeddings[one].values, first.embeddings[other].values, strict=True)
        return sum(left * right for left, right in pairs)

    assert first == again
    assert first.token_count > 15
    assert alike(0, 0) == pytest.approx(1, abs=0.01)
    assert alike(0, 1) > alike(0, 2) + 0.2
    assert "texts[1]" in refused.value.details()
