"""/v1/responses with the official client: whole, streamed, continued."""

from __future__ import annotations

import json

import openai
import pytest
from gateway_fakes import MODEL

from services.gateway.rest import response_documents as documents
from thermesh.testing import redis_server
from thermesh.v1 import common_pb2

PATH = "/v1/responses"


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    with redis_server() as running:
        yield running


@pytest.fixture
async def kept(serve_app, server):
    """A gateway that keeps responses."""
    return await serve_app(redis_url=server.url)


async def test_the_official_client_reads_a_response(openai_client):
    """Text, usage and status where it looks for them."""
    found = await openai_client.responses.create(
        model=MODEL, input="hello", instructions="Be brief.", max_output_tokens=9, store=False
    )
    assert found.output_text == "Paris is it."
    assert found.status == "completed"
    assert found.usage.input_tokens == 5
    assert found.usage.total_tokens == 9
    assert found.id.startswith("resp_")


async def test_a_schema_of_the_text_becomes_a_constraint(openai_client, served):
    """`text.format` reaches inference as the language of the answer."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"type": "json_schema", "name": "city", "schema": schema}
    await openai_client.responses.create(model=MODEL, input="hello", text={"format": form})
    start = served.inference.calls[-1].start
    assert json.loads(start.constraint.json_schema) == schema


async def test_the_official_client_follows_a_stream(openai_client, served):
    """Created, deltas that add up, completed, numbered without a gap."""
    async with openai_client.responses.stream(model=MODEL, input="hello") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert "".join(deltas) == final.output_text == "Paris is it."
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_a_text_with_instructions_is_two_turns(app):
    """Instructions are a system turn before what the user said."""
    body = {"input": "hello", "instructions": "Be brief.", "temperature": 0.5, "store": False}
    answer = await app.http.post(PATH, json=body)
    documents.ResponseDocument(**answer.json())
    turns = app.inference.calls[0].start.chat.messages
    assert [(turn.role, turn.content) for turn in turns] == [
        (common_pb2.ROLE_SYSTEM, "Be brief."),
        (common_pb2.ROLE_USER, "hello"),
    ]
    assert answer.json()["thermesh"]["plan"]["source"] == "pinned"


async def test_a_length_that_ran_out_is_incomplete(app):
    """With OpenAI's reason."""
    app.inference.finish_reason = common_pb2.FINISH_REASON_LENGTH
    body = (await app.http.post(PATH, json={"input": "hello"})).json()
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_continued_by_its_id(kept, stream):
    """The model sees the earlier turns, not the earlier instructions."""
    first = await kept.http.post(PATH, json={"input": "one", "instructions": "Once."})
    body = {"previous_response_id": first.json()["id"], "stream": stream}
    body["input"] = [{"role": "user", "content": [{"type": "input_text", "text": "two"}]}]
    second = await kept.http.post(PATH, json=body)
    assert second.status_code == 200
    turns = [turn.content for turn in kept.inference.calls[-1].start.chat.messages]
    assert turns == ["one", "Paris is it.", "two"]


async def test_another_gateway_continues_it_too(serve_app, server):
    """It is kept in Redis, not in a process."""
    one = await serve_app(redis_url=server.url)
    other = await serve_app(redis_url=server.url)
    first = (await one.http.post(PATH, json={"input": "one"})).json()
    await one.gateway._kept.close()
    body = {"input": "two", "previous_response_id": first["id"]}
    assert (await other.http.post(PATH, json=body)).status_code == 200


async def test_what_is_not_kept_cannot_be_continued(kept):
    """Unknown, not stored, or another tenant's: 404 names the field."""
    secret = (await kept.http.post(PATH, json={"input": "one", "store": False})).json()["id"]
    own = (await kept.http.post(PATH, json={"input": "one"})).json()["id"]
    other = {"thermesh": {"tenant": "other"}}
    for name, more in (("resp_unknown", {}), (secret, {}), (own, other)):
        body = {"input": "two", "previous_response_id": name} | more
        answer = await kept.http.post(PATH, json=body)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "previous_response_not_found"
        assert answer.json()["error"]["param"] == "previous_response_id"


async def test_without_redis_answers_come_and_continuing_waits(app):
    """Storing is a convenience; recalling what is not there is 503 with Retry-After."""
    first = await app.http.post(PATH, json={"input": "one"})
    assert first.status_code == 200
    await app.gateway._kept.close()
    body = {"input": "two", "previous_response_id": first.json()["id"]}
    answer = await app.http.post(PATH, json=body)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({}, "input"),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "a", "mood": 1}, "mood"),
        ({"input": "a", "temperature": 9}, "temperature"),
        ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "a", "previous_response_id": "x y"}, "previous_response_id"),
        ({"input": [{"role": "user", "content": ""}]}, "input"),
    ],
)
async def test_bad_input_is_named(app, body, param):
    """400 with the field; nothing is opened."""
    answer = await app.http.post(PATH, json=body)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["param"] or "").startswith(param), answer.text
    assert app.inference.calls == []


async def test_errors_are_those_of_the_official_client(openai_client):
    """NotFoundError for an unknown model."""
    with pytest.raises(openai.NotFoundError):
        await openai_client.responses.create(model="gpt-9", input="hello")
