"""Messages to values and back."""

import pytest

from services.feature import wire
from services.feature.extract import Reading, Vector
from thermesh import features
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.v1 import common_pb2, feature_pb2
from thermesh.v1.feature_pb2 import ExtractRequest, ExtractStreamRequest, PartialText, VoiceSignal


def context(**fields):
    return common_pb2.RequestContext(**fields)


async def read_all(*messages):
    async def stream():
        for message in messages:
            yield message

    return [update async for update in wire.updates(stream())]


def test_a_request_becomes_a_reading():
    """Defaults are those of the contract: tenant `default`, one turn, typed."""
    assert wire.reading(ExtractRequest(text="hi")) == Reading("hi")
    full = ExtractRequest(
        context=context(session_id="s", tenant="acme", deadline_unix_ms=5),
        text="hi",
        turn_count=3,
        waited_ms=1500,
        voice=VoiceSignal(speech_duration_ms=2000, recognition_confidence=0.5),
    )
    assert wire.reading(full) == Reading("hi", "acme", "s", 3, 1.5, 5, 2.0)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ExtractRequest(), "text"),
        (ExtractRequest(text="x" * (1 << 20) + "x"), "text"),
        (ExtractRequest(text="x", context=context(session_id="a b")), "context.session_id"),
        (ExtractRequest(text="x", context=context(session_id="a" * 65)), "context.session_id"),
        (ExtractRequest(text="x", context=context(tenant="é")), "context.tenant"),
        (
            ExtractRequest(text="x", context=context(deadline_unix_ms=-1)),
            "context.deadline_unix_ms",
        ),
        (
            ExtractRequest(text="x", voice=VoiceSignal(recognition_confidence=1.5)),
            "voice.recognition_confidence",
        ),
        (
            ExtractRequest(text="x", voice=VoiceSignal(recognition_confidence=float("nan"))),
            "voice.recognition_confidence",
        ),
    ],
)
def test_bad_fields_are_named(request_, field):
    """Each refusal names the path of its field, and its message too."""
    with pytest.raises(InvalidArgument, match=field.replace(".", r"\.")) as refused:
        wire.reading(request_)
    assert refused.value.field == field


async def test_a_stream_replaces_its_text_and_keeps_the_rest():
    """Partials inherit session and tenant; a start with text is the first partial."""
    updates = await read_all(
        ExtractStreamRequest(start=ExtractRequest(text="w", context=context(session_id="s"))),
        ExtractStreamRequest(partial=PartialText(text="what", waited_ms=500)),
        ExtractStreamRequest(
            partial=PartialText(
                text="what now", is_final=True, voice=VoiceSignal(speech_duration_ms=1000)
            )
        ),
    )
    assert [update.reading.text for update in updates] == ["w", "what", "what now"]
    assert [update.is_final for update in updates] == [False, False, True]
    assert {update.reading.session_id for update in updates} == {"s"}
    assert updates[1].reading.waited_seconds == 0.5
    assert updates[2].reading.speech_seconds == 1.0


START = ExtractStreamRequest(start=ExtractRequest())
PARTIAL = ExtractStreamRequest(partial=PartialText(text="a"))
FINAL = ExtractStreamRequest(partial=PartialText(text="a", is_final=True))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([PARTIAL], "start"),
        ([ExtractStreamRequest()], "start"),
        ([START, START], "partial"),
        ([START, FINAL, PARTIAL], "partial"),
    ],
)
async def test_messages_in_a_wrong_order_are_refused(messages, field):
    """Start first and once, nothing after the final text."""
    with pytest.raises(FailedPrecondition) as refused:
        await read_all(*messages)
    assert refused.value.field == field


async def test_an_empty_partial_is_refused():
    """Only the start may be without text."""
    with pytest.raises(InvalidArgument) as refused:
        await read_all(START, ExtractStreamRequest(partial=PartialText()))
    assert refused.value.field == "partial.text"


def test_tasks_are_numbered_as_in_the_contract():
    """Every task has its enum value; abstention has none."""
    values = (0.0,) * len(features.FEATURES)
    for task in features.TASKS:
        message = wire.vector(Vector(values, task, 0.5, encoder_used=True))
        assert common_pb2.Task.Name(message.task) == f"TASK_{task.upper()}"
    assert wire.vector(Vector(values, "", 0.2, encoder_used=False)).task == 0


def test_the_schema_is_described_in_order():
    """DescribeFeatures says what thermesh.features says."""
    described = wire.schema()
    assert described.schema_version == features.SCHEMA_VERSION
    names = [feature.name for feature in features.FEATURES]
    assert names == [definition.name for definition in described.features]
    assert isinstance(described.features[0], feature_pb2.FeatureDefinition)


def test_the_wait_for_the_encoder_is_absent_or_in_microseconds():
    """None and zero are different things."""
    assert wire.reading(feature_pb2.ExtractRequest(text="a")).encoder_wait_seconds is None
    at_once = feature_pb2.ExtractRequest(text="a", encoder_wait_us=0)
    assert wire.reading(at_once).encoder_wait_seconds == 0.0
    some = feature_pb2.ExtractRequest(text="a", encoder_wait_us=12_500)
    assert wire.reading(some).encoder_wait_seconds == 0.0125
