"""What is seen of a request afterwards: span, metrics, one log line."""

from __future__ import annotations

import logging

from opentelemetry import trace

from thermesh import semconv
from thermesh.errors import Internal, Unavailable
from thermesh.testing import eventually

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}


async def test_the_root_span_tells_the_decision(spans, app):
    """It continues the caller's trace and carries model, plan and usage; so does the context."""
    response = await app.http.post(
        "/v1/chat/completions",
        json={"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]},
        headers=PARENT,
    )
    span = spans.get_finished_spans()[0]
    sent = app.inference.calls[0].start.context.traceparent

    assert response.status_code == 200
    assert trace.format_trace_id(span.context.trace_id) == TRACE_ID
    assert sent.split("-")[1] == TRACE_ID
    assert sent.split("-")[2] == trace.format_span_id(span.context.span_id)
    assert span.attributes[semconv.DECISION_ID] == "dec-" + "0" * 32
    assert span.attributes[semconv.POLICY_VERSION] == 7
    assert span.attributes[semconv.TEMPERATURE] == 0.4
    assert span.attributes[semconv.GEN_AI_OPERATION] == "chat"
    assert span.attributes[semconv.GEN_AI_REQUEST_MODEL] == "fake-model"
    assert span.attributes[semconv.GEN_AI_INPUT_TOKENS] == 5
    assert span.attributes[semconv.GEN_AI_OUTPUT_TOKENS] == 4
    assert span.attributes["http.response.status_code"] == 200


async def test_the_span_ends_when_the_client_leaves(spans, served):
    """A cancelled request is told as cancelled."""
    served.inference.hangs_after = 1
    request = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
    async with served.http.stream(
        "POST", "/v1/chat/completions", json=request | {"stream": True}
    ) as response:
        lines = response.aiter_lines()
        while "Paris" not in await anext(lines):
            pass
    await eventually(lambda: bool(spans.get_finished_spans()))
    span = spans.get_finished_spans()[0]

    assert span.attributes[semconv.GEN_AI_FINISH_REASONS] == ("cancelled",)


async def test_metrics_are_recorded_once_a_request(app):
    """Requests by how they ended; times once each, whatever the number of tokens."""
    await app.chat()
    app.inference.fails_after, app.inference.failure = 1, Internal("broken")
    await app.chat()
    app.inference.refusal = Unavailable("starting")
    await app.chat()

    assert app.count(semconv.REQUESTS, **{semconv.REASON: "stop"}) == 1
    assert app.count(semconv.REQUESTS, **{semconv.REASON: "failed"}) == 2
    assert app.count(semconv.REQUEST_DURATION) == 3
    assert app.count(semconv.TIME_TO_FIRST_TOKEN) == 2
    assert app.count(semconv.TIME_PER_OUTPUT_TOKEN) == 1


async def test_one_log_line_tells_a_request(app, caplog):
    """It has request id, decision id, policy version and temperature."""
    caplog.set_level(logging.INFO, logger="thermesh.gateway")
    answer = (await app.chat()).json()["thermesh"]
    lines = [r.getMessage() for r in caplog.records if r.name == "thermesh.gateway"]

    assert len(lines) == 1
    for part in (answer["request_id"], answer["decision_id"], "version 7", "0.400", "stop"):
        assert part in lines[0]


async def test_a_dead_neighbour_is_logged_once(app, caplog):
    """One line when it goes, one when it is back, whatever happens between."""
    caplog.set_level(logging.INFO, logger="services.gateway.mesh.peer")
    await app.neighbours.stop("controller")
    for _ in range(8):
        await app.chat()
    await app.neighbours.start("controller")

    async def back():
        await app.chat()
        return "controller is back" in caplog.messages

    await eventually(back, 30, "the controller back")
    about = [m for m in caplog.messages if m.startswith("controller")]

    assert about == [
        "controller is away (UNAVAILABLE); going on without it",
        "controller is back",
    ]


async def test_a_bug_is_a_500_that_tells_nothing(app, monkeypatch, caplog):
    """The text of an exception stays in the log, under an id that the client gets."""

    async def broken():
        raise RuntimeError("secret")

    monkeypatch.setattr(app.gateway.app.state.doors.models, "models", broken)
    response = await app.http.get("/v1/models")
    error_id = response.json()["error"]["message"].rsplit(" ", 1)[1]

    assert response.status_code == 500
    assert "secret" not in response.text
    assert error_id in caplog.text
