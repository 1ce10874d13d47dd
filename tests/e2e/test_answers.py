"""The mesh answers real clients, decides by kind of request and learns from feedback."""

from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import openai
import pytest

from thermesh import rpc
from thermesh.testing import eventually
from thermesh.v1 import chat_pb2, chat_pb2_grpc, common_pb2

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

MODEL = "smollm2-135m-instruct"
FACT = "What is the capital of France?"
STORY = "Write a story about a dragon who is afraid of fire."


def user(text):
    """A conversation of one user turn."""
    return [{"role": "user", "content": text}]


async def complete(mesh, text, **options):
    """One chat completion that is not streamed, as the server's own JSON."""
    async with httpx.AsyncClient(base_url=mesh.url, timeout=60) as client:
        body = {"model": MODEL, "messages": user(text), "max_tokens": 16, **options}
        response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_official_client_streams_a_sensible_answer(mesh):
    """`openai` streams chunks whose text answers the question."""
    async with openai.AsyncOpenAI(base_url=f"{mesh.url}/v1", api_key="unused") as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=user(FACT),
            stream=True,
            stream_options={"include_usage": True},
            temperature=0,
            max_tokens=24,
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert "Paris" in text
    assert len(chunks) > 4
    assert chunks[-1].usage.completion_tokens > 0


async def test_a_fact_is_answered_cooler_than_a_story(mesh):
    """The policy reads the kind of request and the response shows what it chose."""
    facts = [await complete(mesh, FACT, max_tokens=2) for _ in range(5)]
    stories = [await complete(mesh, STORY, max_tokens=2) for _ in range(5)]
    plans = [[answer["thermesh"]["plan"] for answer in side] for side in (facts, stories)]
    cool, warm = ([plan["temperature"] for plan in side] for side in plans)

    assert {plan["source"] for side in plans for plan in side} == {"policy"}
    assert sorted(cool)[2] + 0.2 < sorted(warm)[2]
    decision = facts[0]["thermesh"]["decision_id"]
    await eventually(lambda: decision in mesh.log("gateway"), what="the decision in the log")


@pytest.mark.parametrize("temperature", [0, 0.55, 1.7])
async def test_a_pinned_temperature_is_honoured_exactly(mesh, temperature):
    """A user's own number is what every token is drawn at."""
    async with httpx.AsyncClient(base_url=mesh.url, timeout=60) as client:
        body = {
            "model": MODEL,
            "messages": user(STORY),
            "max_tokens": 8,
            "stream": True,
            "temperature": temperature,
            "thermesh": {"telemetry": True},
        }
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = [line async for line in response.aiter_lines() if line.startswith("data: {")]
    extensions = [json.loads(line[6:]).get("thermesh") or {} for line in lines]
    applied = {
        round(token["temperature"], 6) for part in extensions for token in part.get("tokens", ())
    }

    assert extensions[0]["plan"]["source"] == "pinned"
    assert applied == {temperature}


async def test_feedback_sent_twice_changes_the_policy_once(mesh):
    """One feedback id counts once, and the next response carries the grown version."""
    answer = (await complete(mesh, FACT))["thermesh"]
    feedback = {"id": f"fb-{uuid.uuid4().hex}", "decision_id": answer["decision_id"], "score": 1}
    async with httpx.AsyncClient(base_url=mesh.url, timeout=30) as client:
        first = await client.post("/v1/feedback", json=feedback)
        second = await client.post("/v1/feedback", json=feedback)
        conflicting = await client.post("/v1/feedback", json={**feedback, "score": -1})

        async def applied():
            state = (await client.get(f"/v1/feedback/{feedback['id']}")).json()
            return state["state"] == "applied"

        await eventually(applied, 30, "the feedback in a policy version")
        version = (await client.get(f"/v1/feedback/{feedback['id']}")).json()["applied_version"]
        third = await client.post("/v1/feedback", json=feedback)
    next_answer = await complete(mesh, FACT)

    assert [r.status_code for r in (first, second, conflicting, third)] == [202, 200, 409, 200]
    assert third.json()["applied_version"] == version > answer["policy_version"]
    assert next_answer["thermesh"]["policy_version"] == version


async def test_an_update_in_mid_stream_is_acknowledged_at_its_token(mesh):
    """Telemetry shows the new temperature from exactly the token the server named."""
    channel = rpc.connect(mesh.target("gateway"))
    wanted = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=1.25))
    requests = Requests()
    requests.send(start=start(STORY, temperature=0.3, max_tokens=40))
    tokens, applied = [], []
    call = chat_pb2_grpc.ChatServiceStub(channel).Converse(requests)
    try:
        async for response in call:
            tokens += response.tokens.tokens
            if response.HasField("applied"):
                applied.append(response.applied)
            if len(tokens) >= 4 and not requests.updated:
                requests.updated = True
                requests.send(update=common_pb2.ParameterUpdate(update_id=1, program=wanted))
    finally:
        call.cancel()
        await channel.close()
    change = next(a for a in applied if a.source == common_pb2.UPDATE_SOURCE_CLIENT)

    assert 4 <= change.token_index < 40
    for token in tokens:
        after = token.index >= change.token_index
        assert round(token.temperature, 6) == (1.25 if after else 0.3)
        assert (token.revision >= change.revision) == after


async def test_one_trace_spans_every_room_and_the_learner(mesh):
    """The caller's trace id is on spans of gateway, feature, controller, inference and learner."""
    trace_id = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"}
    async with httpx.AsyncClient(base_url=mesh.url, timeout=60, headers=headers) as client:
        body = {"model": MODEL, "messages": user(f"{FACT} {trace_id}"), "max_tokens": 4}
        answer = (await client.post("/v1/chat/completions", json=body)).json()
    async with httpx.AsyncClient(base_url=mesh.url, timeout=60) as client:
        feedback = {"decision_id": answer["thermesh"]["decision_id"], "score": 0.5}
        await client.post("/v1/feedback", json={"id": f"fb-{trace_id}", **feedback})

    def services():
        whole, _, _ = mesh.trace_file.read_text().rpartition("\n")
        spans = map(json.loads, whole.splitlines())
        return {
            span["resource"]["attributes"]["service.name"]
            for span in spans
            if span["context"]["trace_id"] == f"0x{trace_id}"
        }

    rooms = ("gateway", "feature", "controller", "inference", "learner")
    expected = {f"thermesh-{room}" for room in rooms}
    await eventually(lambda: services() == expected, 60, "spans of every room")


def start(text, temperature=None, max_tokens=16):
    """The first message of a Converse stream."""
    message = chat_pb2.ConverseStart(model=MODEL)
    message.messages.add(role=common_pb2.ROLE_USER, content=text)
    message.constraints.max_tokens = max_tokens
    if temperature is not None:
        message.constraints.temperature = temperature
    return message


class Requests:
    """The request side of a Converse stream, fed by the test."""

    def __init__(self):
        self.updated = False
        self._queue = asyncio.Queue()

    def send(self, **message):
        """Queue one message."""
        self._queue.put_nowait(chat_pb2.ConverseRequest(**message))

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self._queue.get()


CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "population": {"type": "integer", "minimum": 0, "maximum": 50_000_000},
        "coastal": {"type": "boolean"},
    },
    "required": ["name", "population", "coastal"],
    "additionalProperties": False,
}


async def test_a_schema_is_fitted_by_the_real_mesh(mesh):
    """A json_schema answer parses, streamed or not, adaptive or hot."""
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    for temperature in ("auto", 2.0):
        answer = await complete(
            mesh,
            "Describe Oslo.",
            response_format=schema,
            temperature=temperature,
            max_tokens=None,
        )
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert set(json.loads(choice["message"]["content"])) == set(CITY["required"])


async def test_a_required_call_has_arguments_of_the_function(mesh):
    """The official client streams a call that fits, then reads an answer to its result."""
    function = {"name": "describe_city", "description": "Describes a city.", "parameters": CITY}
    tools = [{"type": "function", "function": {**function, "strict": True}}]
    async with openai.AsyncOpenAI(base_url=f"{mesh.url}/v1", api_key="unused") as client:
        asked = {"model": MODEL, "tools": tools}
        stream = client.chat.completions.stream(
            messages=user("Describe Oslo."), tool_choice="required", **asked
        )
        async with stream as events:
            first = (await events.get_final_completion()).choices[0]
        [call] = first.message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": "A city by a fjord."}
        said = first.message.model_dump(exclude_none=True, exclude={"parsed"})
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
        ]
        second = await client.chat.completions.create(
            messages=[*user("Describe Oslo."), said, result], max_tokens=16, **asked
        )

    assert first.finish_reason == "tool_calls"
    assert call.function.name == "describe_city"
    assert set(json.loads(call.function.arguments)) == set(CITY["required"])
    assert second.choices[0].finish_reason in {"stop", "length", "tool_calls"}


async def test_a_schema_that_cannot_be_enforced_is_refused_by_name(mesh):
    """400 names response_format and the keyword."""
    schema = {"name": "odd", "schema": {"not": {"type": "string"}}}
    body = {
        "messages": user(FACT),
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
    async with httpx.AsyncClient(base_url=mesh.url, timeout=60) as client:
        refused = await client.post("/v1/chat/completions", json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "response_format")
    assert '"not"' in error["message"]
