"""Responses that are read, told again, listed, continued and deleted, with the official client."""

from __future__ import annotations

import asyncio
import json
import pathlib
import runpy
import sys

import openai
import pytest
import redis
from gateway_fakes import MODEL, bearer, make_key

from services.gateway.rest import response_documents as documents
from thermesh.errors import Internal, InvalidArgument
from thermesh.testing import eventually, redis_server

from .test_response_tools import ASKED, TOOLS
from .test_structured import CALL, SECOND

pytestmark = pytest.mark.slow

PATH = "/v1/responses"
EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples"
LOGPROBS = "message.output_text.logprobs"


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    with redis_server() as running:
        yield running


@pytest.fixture
async def served(serve, server):
    """A gateway with real ports that keeps responses; in place of the one that keeps none."""
    return await serve(redis_url=server.url)


async def make(http, **options):
    """A response by plain HTTP; return its JSON."""
    answer = await http.post(PATH, json={"input": "hello"} | options)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_response_is_read_as_it_was_told(openai_client):
    """Text, metadata, decision and usage, until it is deleted."""
    made = await openai_client.responses.create(
        model=MODEL, input="hello", metadata={"a": "b"}, instructions="Be brief."
    )
    found = await openai_client.responses.retrieve(made.id)
    assert found == made
    assert found.thermesh["decision_id"].startswith("dec-")
    await openai_client.responses.delete(made.id)
    for ask in (
        openai_client.responses.retrieve(made.id),
        openai_client.responses.delete(made.id),
        openai_client.responses.input_items.list(made.id),
        openai_client.responses.cancel(made.id),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await ask
        assert caught.value.param == "response_id"


def steps(events):
    """The kinds of events, several deltas in a row as one: tokens may come together."""
    kinds = [event.type for event in events]
    return [kind for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]


@pytest.mark.parametrize("texts", [["Paris", " is", " it."], [*CALL, *SECOND], ["<too"], []])
@pytest.mark.parametrize("first", [True, False], ids=["streamed", "whole"])
async def test_a_stream_can_be_heard_again(served, openai_client, texts, first):
    """The same events under the same numbers, however it was asked for at first."""
    served.inference.texts = texts
    options = {"model": MODEL, "input": [ASKED], "tools": TOOLS, "parallel_tool_calls": True}
    options |= {"include": [LOGPROBS], "top_logprobs": 1}
    made = [e async for e in await openai_client.responses.create(**options, stream=True)]
    name = made[-1].response.id
    if not first:
        name = (await openai_client.responses.create(**options)).id
    again = [e async for e in await openai_client.responses.retrieve(name, stream=True)]
    assert [event.sequence_number for event in again] == list(range(len(again)))
    assert steps(again) == steps(made)
    if first:
        assert again == made
    rest = await openai_client.responses.retrieve(name, stream=True, starting_after=3)
    assert [e async for e in rest] == again[4:]


async def test_the_clients_stream_helper_hears_it_again(openai_client):
    """`responses.stream(response_id=...)` puts the whole together."""
    made = await openai_client.responses.create(model=MODEL, input="hello")
    async with openai_client.responses.stream(response_id=made.id) as stream:
        final = await stream.get_final_response()
    assert final.output_text == made.output_text


async def test_input_items_are_listed_by_pages(openai_client):
    """The newest first, earlier turns included, each with an id."""
    first = await openai_client.responses.create(model=MODEL, input="one")
    turns = [{"role": "user", "content": "two"}, {"role": "user", "content": "three"}]
    last = await openai_client.responses.create(
        model=MODEL, input=turns, previous_response_id=first.id
    )
    listed = await openai_client.responses.input_items.list(last.id, limit=2)
    items = [item async for item in listed]
    assert [item.content[0].text for item in items] == ["three", "two", "Paris is it.", "one"]
    assert items[2].id == first.output[0].id
    assert len({item.id for item in items}) == 4
    oldest = await openai_client.responses.input_items.list(last.id, limit=1, order="asc")
    assert [item.id for item in oldest.data] == [items[3].id]
    assert oldest.has_more


async def test_calls_and_results_are_continued_by_id(served, openai_client):
    """The results of calls are all that the next request brings."""
    served.inference.texts = CALL
    first = await openai_client.responses.create(model=MODEL, input=[ASKED], tools=TOOLS)
    result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "12"}
    served.inference.texts = ["Twelve."]
    second = await openai_client.responses.create(
        model=MODEL, input=[result], tools=TOOLS, previous_response_id=first.id
    )
    _, asked, called, told = served.inference.calls[-1].start.chat.messages
    assert (asked.content, called.content) == (ASKED["content"], "".join(CALL))
    assert told.content == "<tool_response>\n12\n</tool_response>"
    items = (await openai_client.responses.input_items.list(second.id, order="asc")).data
    assert [item.type for item in items] == ["message", "function_call", "function_call_output"]


async def test_log_probabilities_come_where_they_are_included(openai_client):
    """In deltas and in the whole."""
    options = {"model": MODEL, "input": "hello", "include": [LOGPROBS], "top_logprobs": 1}
    found = await openai_client.responses.create(**options)
    [message] = found.output
    assert [each.token for each in message.content[0].logprobs] == ["Paris", " is", " it", "."]
    assert [len(each.top_logprobs) for each in message.content[0].logprobs] == [1] * 4
    stream = await openai_client.responses.create(**options, stream=True)
    deltas = [e async for e in stream if e.type == "response.output_text.delta"]
    told = [each.token for delta in deltas for each in delta.logprobs]
    assert told == ["Paris", " is", " it", "."]
    assert "".join(delta.delta for delta in deltas) == "".join(told)


async def test_nothing_runs_in_the_background(openai_client):
    """cancel names the field by which it could."""
    made = await openai_client.responses.create(model=MODEL, input="hello")
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.responses.cancel(made.id)
    assert (caught.value.param, caught.value.code) == ("background", "not_in_background")


async def test_nobody_reads_what_another_tenant_said(serve_app, server):
    """Not by the key of another, nor by naming the tenant."""
    app = await serve_app(redis_url=server.url, require_keys=True)
    own, other = (bearer(make_key(server.url, tenant)) for tenant in ("own", "other"))
    made = (await app.http.post(PATH, json={"input": "hello"}, headers=own)).json()
    one = f"{PATH}/{made['id']}"
    assert (await app.http.get(one, headers=own)).json() == made
    for ask in (app.http.get, app.http.delete):
        assert (await ask(one, headers=other)).status_code == 404
        assert (await ask(one, headers=other, params={"tenant": "own"})).status_code == 403
    assert (await app.http.get(f"{one}/input_items", headers=other)).status_code == 404
    assert (await app.http.get(one, headers=own)).status_code == 200


async def test_a_tenants_shelf_has_a_bound(serve_app, server):
    """The oldest responses go first, and what Redis holds stays within it."""
    app = await serve_app(redis_url=server.url, tenant_response_bytes=12_000)
    options = {"thermesh": {"tenant": "full"}}
    first = f"{PATH}/{(await make(app.http, **options))['id']}"

    async def is_gone_after_one_more():
        await make(app.http, **options)
        await app.gateway._kept.close()
        return (await app.http.get(first, params={"tenant": "full"})).status_code == 404

    await eventually(is_gone_after_one_more)
    with redis.Redis.from_url(server.url) as store:
        texts = list(store.scan_iter("thermesh:responses:{full}:text:*"))
        held = sum(store.strlen(text) for text in texts)
        assert 0 < held <= 12_000
        assert held == int(store.get("thermesh:responses:{full}:bytes"))
        assert store.zcard("thermesh:responses:{full}:shelf") == len(texts) > 1


async def test_what_is_too_long_is_not_kept_and_says_so(serve_app, server):
    """The answer comes as always; `store` is false."""
    app = await serve_app(redis_url=server.url, response_bytes=4096)
    made = await make(app.http, input="x" * 4096)
    documents.ResponseDocument(**made)
    assert made["store"] is False
    assert (await app.http.get(f"{PATH}/{made['id']}")).status_code == 404


async def test_a_response_can_be_deleted_while_it_is_written(serve_app, server):
    """What is on its way to Redis arrives before it is forgotten."""
    app = await serve_app(redis_url=server.url)
    made = await make(app.http)
    gone = await app.http.delete(f"{PATH}/{made['id']}")
    assert gone.json() == {"id": made["id"], "object": "response", "deleted": True}
    assert (await app.http.get(f"{PATH}/{made['id']}")).status_code == 404


async def test_without_redis_reading_is_503_and_answering_goes_on(app):
    """Whatever needs what was kept says when to come back."""
    made = await make(app.http)
    await app.gateway._kept.close()
    one = f"{PATH}/{made['id']}"
    answers = [
        await app.http.get(one),
        await app.http.delete(one),
        await app.http.get(f"{one}/input_items"),
        await app.http.post(f"{one}/cancel", json={}),
    ]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert all("retry-after" in answer.headers for answer in answers)


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        (f"{PATH}/resp_x?mood=1", 400, "mood"),
        (f"{PATH}/resp_x?stream=perhaps", 400, "stream"),
        (f"{PATH}/resp_x?starting_after=1", 400, "starting_after"),
        (f"{PATH}/resp_x?include[]=reasoning.thoughts", 400, "include"),
        (f"{PATH}/resp_x?tenant=a%20b", 400, "tenant"),
        (f"{PATH}/resp_x/input_items?limit=0", 400, "limit"),
        (f"{PATH}/no-response", 404, "response_id"),
    ],
)
async def test_bad_reading_is_named(app, path, status, param):
    """By the parameter that is wrong."""
    answer = await app.http.get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"].startswith(param)


async def test_an_error_in_mid_stream_is_raised_by_the_client(served, openai_client):
    """After response.failed with what was written; the event itself is one of type error."""
    served.inference.fails_after = 2
    served.inference.failure = Internal("the engine failed")
    stream = await openai_client.responses.create(model=MODEL, input="hello", stream=True)
    while (failed := await anext(stream)).type != "response.failed":
        pass
    with pytest.raises(openai.APIError, match="the engine failed"):
        await anext(stream)
    assert failed.response.status == "failed"
    assert failed.response.error.code == "server_error"
    assert failed.response.output_text == "Paris is"
    raw = (await served.http.post(PATH, json={"input": "hello", "stream": True})).text
    lines = [line for line in raw.splitlines() if line.startswith("data: ")]
    failed, last = (json.loads(line.removeprefix("data: ")) for line in lines[-2:])
    assert (last["type"], last["message"]) == ("error", "the engine failed")
    assert last["sequence_number"] == failed["sequence_number"] + 1
    assert "[DONE]" not in raw


async def test_inferences_refusal_has_the_field_of_a_response(served):
    """Not that of a chat completion, which the client did not write."""
    schema = {"type": "json_schema", "name": "a", "schema": {"not": {}}}
    for refused, param in (
        ("start.constraint.json_schema", "text.format"),
        ("start.chat.messages", "input"),
    ):
        served.inference.refusal = InvalidArgument("no", field=refused)
        body = {"input": "hello", "text": {"format": schema}}
        answer = await served.http.post(PATH, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


async def test_the_example_runs_what_the_model_calls(served, monkeypatch, capsys):
    """`examples/tools.py` multiplies, and sends the product back."""
    call = '<tool_call>\n{"name": "multiply", "arguments": {"a": 21, "b": 2}}\n</tool_call>'
    served.inference.texts = [call]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{served.http_port}/v1")
    monkeypatch.setattr(sys, "argv", ["tools.py"])
    await asyncio.to_thread(runpy.run_path, str(EXAMPLES / "tools.py"))
    assert 'multiply({"a": 21, "b": 2}) = 42' in capsys.readouterr().out
    told = served.inference.calls[1].start.chat.messages[-1]
    assert told.content == "<tool_response>\n42\n</tool_response>"
