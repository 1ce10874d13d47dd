"""`/v1/realtime` through the official client: text, steering, refusals, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json

import fake_speech
import gateway_fakes as fakes
import openai
import pytest
import websockets

from thermesh.errors import ResourceExhausted
from thermesh.testing import eventually, redis_server

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}


@pytest.fixture
async def text_only(serve):
    """A gateway without voice."""
    return await serve(speech=fake_speech.FakeSource(is_there=False))


@contextlib.asynccontextmanager
async def connected(served, api_key="unused", **options):
    """The official client's connection."""
    base_url = f"http://127.0.0.1:{served.http_port}/v1"
    async with (
        openai.AsyncOpenAI(base_url=base_url, api_key=api_key) as client,
        client.realtime.connect(model=fakes.MODEL, **options) as connection,
    ):
        created = await connection.recv()
        assert created.type == "session.created"
        yield connection


async def until(connection, kind):
    """Events up to the first of a kind, which is the last."""
    events = []
    async with asyncio.timeout(60):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
    return events


async def refused(connection, event):
    """The error that answers an event, sent as it is."""
    await connection.send_raw(json.dumps(event))
    return (await until(connection, "error"))[-1].error


async def test_a_text_turn_has_the_events_of_the_api(text_only):
    """An item and a response come with every event of OpenAI's API, usage and our extension."""
    async with connected(text_only) as connection:
        await connection.conversation.item.create(item=USER)
        await connection.response.create()
        events = await until(connection, "response.done")
    kinds = [event.type for event in events]
    assert kinds[:2] == ["conversation.item.added", "conversation.item.done"]
    assert [kind for kind in kinds[2:] if not kind.endswith("delta")] == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    done = events[-1].response
    assert "".join(deltas) == done.output[0].content[0].text == "Paris is it."
    assert done.status == "completed"
    assert (done.usage.input_tokens, done.usage.output_tokens) == (5, 4)
    assert done.thermesh["plan"]["temperature"] == pytest.approx(0.4)
    assert done.thermesh["latency_ms"]["first_token"] > 0
    assert len({event.event_id for event in events}) == len(events)


async def test_the_conversation_is_what_the_model_reads(text_only):
    """Instructions, items and earlier answers are the chat of the next response."""
    async with connected(text_only) as connection:
        session = {"type": "realtime", "instructions": "Be brief."}
        await connection.session.update(session=session)
        updated = (await until(connection, "session.updated"))[-1]
        assert updated.session.instructions == "Be brief."
        for _ in range(2):
            await connection.conversation.item.create(item=USER)
            await connection.response.create()
            await until(connection, "response.done")
    said = [turn.content for turn in text_only.inference.calls[-1].start.chat.messages]
    assert said == ["Be brief.", "Hello", "Paris is it.", "Hello"]


async def test_items_are_placed_read_and_deleted(text_only):
    """An item can be put first, retrieved and removed; what is removed is unknown afterwards."""
    async with connected(text_only) as connection:
        await connection.conversation.item.create(item={**USER, "id": "second"})
        first = {**USER, "id": "first"}
        await connection.conversation.item.create(item=first, previous_item_id="root")
        await connection.conversation.item.retrieve(item_id="first")
        retrieved = (await until(connection, "conversation.item.retrieved"))[-1]
        assert retrieved.item.content[0].text == "Hello"
        await connection.conversation.item.delete(item_id="first")
        await until(connection, "conversation.item.deleted")
        again = {"type": "conversation.item.retrieve", "item_id": "first", "event_id": "mine"}
        error = await refused(connection, again)
    assert (error.code, error.event_id) == ("item_not_found", "mine")


WRONG = [
    ({"type": "session.close"}, "unknown_event", "type"),
    ({"type": "response.create", "response": {"n": 2}}, "unknown_field", "response.n"),
    ({"type": "response.create"}, "failed_precondition", None),
    ({"type": "response.cancel"}, "response_cancel_not_active", None),
    ({"type": "session.update", "session": {"color": 1}}, "unknown_field", "session.color"),
    (
        {"type": "session.update", "session": {"output_modalities": ["audio"]}},
        "no_voice",
        "session.output_modalities",
    ),
    (
        {"type": "session.update", "session": {"max_output_tokens": 0}},
        "invalid_field",
        "session.max_output_tokens",
    ),
    (
        {"type": "session.update", "session": {"model": "other"}},
        "invalid_field",
        "session.model",
    ),
    ({"type": "input_audio_buffer.append", "audio": "AAA="}, "no_voice", None),
    ({"type": "input_audio_buffer.append", "audio": "#"}, "invalid_field", "audio"),
    (
        {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0},
        "invalid_field",
        "audio_end_ms",
    ),
]


async def test_what_cannot_be_obeyed_is_told_and_the_session_goes_on(text_only):
    """Each wrong event is answered by an error that names it; the next turn works."""
    async with connected(text_only) as connection:
        for event, code, param in WRONG:
            error = await refused(connection, event)
            assert (error.code, error.param) == (code, param)
        for text in ("{", "[]", "1", '{"type": 5}'):
            await connection.send_raw(text)
            assert (await until(connection, "error"))[-1].error.type == "invalid_request_error"
        await connection.conversation.item.create(item=USER)
        await connection.response.create()
        done = (await until(connection, "response.done"))[-1]
    assert done.response.status == "completed"


async def test_cancelling_ends_decoding_and_says_why(text_only):
    """response.cancel asks inference to end; the response is told as cancelled."""
    text_only.inference.hangs_after = 2
    async with connected(text_only) as connection:
        await connection.conversation.item.create(item=USER)
        await connection.response.create()
        said = ""
        while said != "Paris is":
            said += (await until(connection, "response.output_text.delta"))[-1].delta
        twice = await refused(connection, {"type": "response.create"})
        assert twice.code == "conversation_already_has_active_response"
        await connection.response.cancel()
        done = (await until(connection, "response.done"))[-1].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
    assert done.output[0].content[0].text == "Paris is"
    assert done.thermesh["discarded_tokens"] == 0
    call = text_only.inference.calls[0]
    assert call.start.initial_credit == 0
    assert [one.cancel.kept_tokens for one in call.received if one.HasField("cancel")] == [2]


async def test_a_refused_response_fails_with_its_reason(text_only):
    """Where inference refuses, the response is failed, with code and when to come again."""
    async with connected(text_only) as connection:
        text_only.inference.refusal = ResourceExhausted("full", retry_after=2.0)
        await connection.conversation.item.create(item=USER)
        await connection.response.create()
        done = (await until(connection, "response.done"))[-1].response
    assert done.status == "failed"
    assert done.status_details.error.type == "rate_limit_error"
    assert done.status_details.error.retry_after_ms == 2000


async def test_an_out_of_band_response_leaves_the_conversation_alone(text_only):
    """`conversation: none` with own input answers that input and adds nothing."""
    async with connected(text_only) as connection:
        own = {"conversation": "none", "input": [USER], "metadata": {"topic": "aside"}}
        await connection.response.create(response=own)
        events = await until(connection, "response.done")
        assert events[-1].response.metadata == {"topic": "aside"}
        assert not any(event.type.startswith("conversation") for event in events)
        error = await refused(connection, {"type": "response.create"})
    assert error.code == "failed_precondition"


async def test_a_client_that_leaves_frees_everything(text_only):
    """The socket closes in the middle of an answer; inference sees the call cancelled."""
    text_only.inference.hangs_after = 2
    async with connected(text_only) as connection:
        await connection.conversation.item.create(item=USER)
        await connection.response.create()
        await until(connection, "response.output_text.delta")
    await eventually(lambda: text_only.inference.open_calls == 0, 30)
    await eventually(lambda: text_only.gateway._sessions.inside == 0, 30)
    assert text_only.gateway.admission.inside == 0


@pytest.mark.slow
async def test_a_reader_that_stalls_stops_the_engine_not_the_gateway(text_only):
    """Events for a client that does not read are bounded, and go on when it reads."""
    text_only.inference.texts = [" word" * 2000] * 400
    url = f"ws://127.0.0.1:{text_only.http_port}/v1/realtime"
    async with websockets.connect(url, max_queue=1, max_size=None) as socket:
        await socket.send(json.dumps({"type": "conversation.item.create", "item": USER}))
        await socket.send('{"type": "response.create"}')
        await eventually(lambda: text_only.inference.calls, 30)
        assert not text_only.inference.calls[0].over.is_set()
        async with asyncio.timeout(60):
            while '"response.done"' not in await socket.recv():
                pass
    assert text_only.inference.calls[0].over.is_set()


async def test_keys_come_by_header_or_subprotocol(serve):
    """Both ways of a key work; none and a wrong one are refused."""
    with redis_server() as redis:
        served = await serve(
            require_keys=True, redis_url=redis.url, speech=fake_speech.FakeSource(is_there=False)
        )
        secret = fakes.make_key(redis.url, "acme")
        async with connected(served, api_key=secret):
            pass
        url = f"ws://127.0.0.1:{served.http_port}/v1/realtime"
        protocols = ["realtime", f"openai-insecure-api-key.{secret}"]
        async with websockets.connect(url, subprotocols=protocols) as socket:
            assert socket.subprotocol == "realtime"
        for wrong in (None, ["realtime", "openai-insecure-api-key.tm-wrong"]):
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(url, subprotocols=wrong)
            assert caught.value.response.status_code == 401


async def test_the_door_refuses_before_it_accepts(serve):
    """Another site's page without a key, an unknown model, one session too many: all by status."""
    served = await serve(max_sessions=1, speech=fake_speech.FakeSource(is_there=False))
    host = f"127.0.0.1:{served.http_port}"

    async def status(query="", **options):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await websockets.connect(f"ws://{host}/v1/realtime{query}", **options)
        return caught.value.response.status_code

    assert await status(origin="https://example.com") == 403
    assert await status("?model=other") == 404
    async with websockets.connect(f"ws://{host}/v1/realtime", origin=f"http://{host}"):
        assert await status() == 429
