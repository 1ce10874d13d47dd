"""The REST door with the official client and with plain HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_fakes import MODEL

from services.gateway.rest import documents
from thermesh.errors import Internal, ResourceExhausted, Unavailable
from thermesh.testing import eventually
from thermesh.v1 import common_pb2

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def body(**options):
    """The body of a streamed chat completion."""
    return {"model": MODEL, "messages": MESSAGES, "stream": True} | options


async def sse(served, request):
    """All SSE events of one stream, as JSON, and its raw text."""
    async with served.http.stream("POST", "/v1/chat/completions", json=request) as response:
        raw = (await response.aread()).decode()
    lines = [line[6:] for line in raw.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"], raw, response


async def test_the_official_client_streams_and_tolerates_the_extension(openai_client):
    """`openai` reads role, text, finish and usage; the extension is on the first chunk."""
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert text == "Paris is it."
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].model_extra["thermesh"]["plan"]["source"] == "policy"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 9


async def test_the_official_client_gets_a_whole_answer(openai_client):
    """Without `stream` the body is complete and carries the plan."""
    answer = await openai_client.chat.completions.create(model=MODEL, messages=MESSAGES)

    assert answer.choices[0].message.content == "Paris is it."
    assert answer.usage.completion_tokens == 4
    assert answer.model_extra["thermesh"]["policy_version"] == 7


async def test_the_official_client_gets_a_text_completion(openai_client):
    """The older API streams text."""
    stream = await openai_client.completions.create(model=MODEL, prompt="Paris", stream=True)
    text = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

    assert text == "Paris is it."


async def test_the_official_client_lists_models(openai_client):
    """What inference serves can be listed and described."""
    models = await openai_client.models.list()
    model = await openai_client.models.retrieve(MODEL)

    assert [found.id for found in models.data] == [MODEL]
    assert model.created == 1_700_000_000


async def test_a_whole_answer_is_as_the_reference_documents_it(app):
    """The body, with telemetry and log-probabilities, fits the schema of the OpenAPI page."""
    response = await app.chat(logprobs=True, top_logprobs=1, thermesh={"telemetry": True})
    answer = documents.ChatCompletion.model_validate(response.json())

    assert response.headers["x-thermesh-decision-id"] == answer.thermesh.decision_id
    assert response.headers["x-thermesh-temperature"] == "0.4"
    assert answer.thermesh.plan.mode == "apply"
    assert [token.temperature for token in answer.thermesh.tokens] == [0.4] * 4
    assert answer.thermesh.applied[0].source == "plan"
    assert answer.choices[0].logprobs["content"][0]["top_logprobs"][0]["logprob"] == -0.1


async def test_a_text_completion_is_as_the_reference_documents_it(app):
    """The older form, with its own log-probabilities."""
    request = {"model": MODEL, "prompt": "Paris", "logprobs": 1}
    response = await app.http.post("/v1/completions", json=request)
    answer = documents.TextCompletion.model_validate(response.json())

    assert answer.choices[0].logprobs["text_offset"] == [0, 5, 8, 11]


async def test_stream_headers_and_shape(app):
    """The stream forbids storing and collecting, starts with a comment and ends with [DONE]."""
    events, raw, response = await sse(app, body(thermesh={"telemetry": True}))

    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert raw.startswith(": ping\n\n")
    assert raw.endswith("data: [DONE]\n\n")
    assert [t["text"] for e in events for t in e.get("thermesh", {}).get("tokens", [])] == [
        *("Paris", " is", " it", ".")
    ]
    applied = [a for event in events for a in event.get("thermesh", {}).get("applied", [])]
    assert [(a["source"], a["token_index"]) for a in applied] == [("plan", 0)]


async def test_pings_come_before_the_first_token(serve):
    """A long prefill is bridged by comments, so that no proxy cuts the stream."""
    served = await serve(ping_s=0.05)
    served.inference.go.clear()
    pings = 0
    async with served.http.stream("POST", "/v1/chat/completions", json=body()) as response:
        async for line in response.aiter_lines():
            pings += line == ": ping"
            if pings == 3:
                served.inference.go.set()
            if line == "data: [DONE]":
                break

    assert pings >= 3


async def test_an_error_in_mid_stream_is_an_event_without_done(app):
    """The client gets an error object and no [DONE], so that it cannot take it for the end."""
    app.inference.fails_after = 2
    app.inference.failure = Internal("the engine failed")
    events, raw, response = await sse(app, body())

    assert response.status_code == 200
    assert events[-1]["error"]["type"] == "server_error"
    assert "[DONE]" not in raw


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_before_the_first_byte_has_its_status(app, stream):
    """A full engine is 429 with Retry-After, streamed or not."""
    app.inference.refusal = ResourceExhausted("the queue is full", retry_after=2.5)
    response = await app.chat(stream=stream)

    assert response.status_code == 429
    assert response.headers["retry-after"] == "3"
    assert response.json()["error"]["type"] == "rate_limit_error"


async def test_a_dead_inference_is_503_at_once(app):
    """Without inference there is no answer: 503 with Retry-After, and readiness is gone."""
    await app.neighbours.stop("inference")
    response = await app.chat()
    ready = await app.http.get("/readyz")

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")


async def test_no_more_than_the_engine_holds_are_let_in(serve, neighbours):
    """The engine says how many that are, and no setting does; the refusal costs it nothing."""
    neighbours.inference.max_running = 1
    served = await serve()
    await served.gateway._rooms.inference.models()
    served.inference.go.clear()
    first = asyncio.create_task(served.chat())
    await eventually(lambda: served.gateway.admission.inside == 1)
    second = await served.chat()
    served.inference.go.set()

    assert second.status_code == 429
    assert second.json()["error"]["code"] == "no_place"
    assert int(second.headers["retry-after"]) >= 1
    assert (await first).status_code == 200
    assert len(served.inference.calls) == 1


async def test_over_the_limit_is_429_at_once(serve):
    """The request over the bound is refused while the others go on."""
    served = await serve(max_requests=1)
    served.inference.go.clear()
    first = asyncio.create_task(served.chat())
    await eventually(lambda: served.gateway.admission.inside == 1)
    second = await served.chat()
    served.inference.go.set()

    assert second.status_code == 429
    assert int(second.headers["retry-after"]) >= 1
    assert (await first).status_code == 200
    assert served.count("thermesh.requests", **{"thermesh.reason": "rejected"}) == 1


async def test_the_deadline_reaches_every_hop(app):
    """`deadline_ms` is in the context that inference and controller see."""
    now = app.gateway.app.state.doors.pipeline.clock.unix_ms()
    await app.chat(thermesh={"deadline_ms": 5000})
    seen = app.inference.calls[0].start.context.deadline_unix_ms

    assert 0 <= seen - now - 5000 < 2000
    assert app.controller.requests[0].context.deadline_unix_ms == seen


async def test_a_deadline_that_passes_is_504(app):
    """Nothing is decoded after the deadline."""
    app.inference.go.clear()
    response = await app.chat(thermesh={"deadline_ms": 50})
    await eventually(lambda: app.inference.open_calls == 0)

    assert response.status_code == 504


async def test_what_the_user_set_reaches_controller_and_inference(app):
    """Every field arrives where it belongs."""
    await app.chat(
        temperature=0.55,
        top_p=0.9,
        seed=3,
        max_completion_tokens=9,
        stop="END",
        logit_bias={"7": -1},
        presence_penalty=0.5,
        thermesh={
            "scenario": "code",
            "mode": "observe",
            "session_id": "s-1",
            "tenant": "acme",
            "priority": "voice",
            "temperature_range": {"minimum": 0.2, "maximum": 0.6},
        },
    )
    asked, start = app.controller.requests[0], app.inference.calls[0].start

    assert asked.constraints.temperature == 0.55
    assert asked.constraints.guard.top_p == 0.9
    assert not asked.constraints.guard.HasField("min_p")
    assert dict(asked.constraints.logit_bias) == {7: -1.0}
    assert asked.constraints.scenario == "code"
    assert asked.constraints.mode == common_pb2.MODE_OBSERVE
    assert asked.constraints.temperature_range.maximum == 0.6
    assert asked.context.tenant == "acme"
    assert asked.context.priority == common_pb2.PRIORITY_VOICE
    assert asked.features.task == common_pb2.TASK_QUESTION_ANSWERING
    assert asked.route == "/v1/chat/completions"
    assert (start.max_tokens, list(start.stop), start.seed) == (9, ["END"], 3)
    assert start.sampling.program.fixed.temperature == 0.55
    assert start.sampling.penalties.presence == 0.5
    assert start.context.session_id == "s-1"


async def test_health_tells_who_is_away(app):
    """Readiness needs inference only; the others are listed."""
    everyone = (await app.http.get("/readyz")).json()
    await app.neighbours.stop("feature")
    degraded = await app.http.get("/readyz")
    alive = await app.http.get("/healthz")

    assert everyone["status"] == "ready"
    assert degraded.status_code == 200
    assert degraded.json()["status"] == "degraded"
    assert degraded.json()["peers"]["feature"] == "away"
    assert alive.json() == {"status": "ok"}


async def test_a_gateway_that_is_ready_decides_its_first_question_with_features(serve, neighbours):
    """One that starts before the other rooms says so until it has reached them."""
    await neighbours.stop("feature")
    served = await serve(meeting_s=600)
    early = await served.http.get("/readyz")
    await neighbours.start("feature")

    async def is_ready():
        return (await served.http.get("/readyz")).status_code == 200

    await eventually(is_ready, 60, "the gateway ready")
    await served.chat()

    assert (early.status_code, early.json()["status"]) == (503, "not_ready")
    assert served.controller.requests[0].HasField("features")


async def test_policies_are_listed(app):
    """The stored versions come from the controller."""
    policies = (await app.http.get("/v1/policies")).json()
    documents.PoliciesDocument.model_validate(policies)
    app.controller.error = Unavailable("no store", retry_after=2)
    away = await app.http.get("/v1/policies")

    assert policies["data"][0]["version"] == 7
    assert policies["modes"] == {"*": "apply"}
    assert (away.status_code, away.headers["retry-after"]) == (503, "2")
