"""Bad input over REST: each a clear error naming the field, and the mesh stays healthy."""

from __future__ import annotations

import json

import pytest
from gateway_fakes import MODEL

MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def chat(**options):
    """A chat body with members replaced; a member set to ... is left out."""
    body = {"model": MODEL, "messages": MESSAGES} | options
    return {key: value for key, value in body.items() if value is not ...}


def message(**members):
    """Messages whose only turn has members replaced."""
    return [{"role": "user", "content": "hello"} | members]


# (name, body, status, param, part of the message)
CASES = [
    ("unknown model", chat(model="gpt-9"), 404, "model", "not served"),
    ("empty model", chat(model=""), 400, "model", "must not be empty"),
    ("no messages", chat(messages=...), 400, "messages", "is required"),
    ("empty messages", chat(messages=[]), 400, "messages", "at least 1"),
    ("empty prompt", chat(messages=message(content="")), 400, None, "must not be empty"),
    ("unknown role", chat(messages=message(role="wizard")), 400, "messages[0].role", "system"),
    (
        "role of a function",
        chat(messages=message(role="function")),
        400,
        "messages[0].role",
        "assistant",
    ),
    ("content type", chat(messages=message(content=7)), 400, "messages[0].content", "a text"),
    (
        "image part",
        chat(messages=message(content=[{"type": "image_url", "text": "x"}])),
        400,
        "messages[0].content[0].type",
        "text",
    ),
    ("unknown field", chat(temprature=1), 400, "temprature", "not a known field"),
    ("unknown extension", chat(thermesh={"mood": 1}), 400, "thermesh.mood", "not a known"),
    ("temperature too high", chat(temperature=2.5), 400, "temperature", "0.1 to 2.0"),
    ("temperature too low", chat(temperature=0.05), 400, "temperature", "0.1 to 2.0"),
    ("temperature negative", chat(temperature=-1), 400, "temperature", "0.1 to 2.0"),
    ("temperature as text", chat(temperature="hot"), 400, "temperature", '"auto"'),
    ("temperature as bool", chat(temperature=True), 400, "temperature", "0.1 to 2.0"),
    ("top_p zero", chat(top_p=0), 400, "top_p", "above 0 and at most 1"),
    ("top_p as text", chat(top_p="0.9"), 400, "top_p", "number"),
    ("top_k zero", chat(top_k=0), 400, "top_k", "from 1 to 1000000"),
    ("top_k fraction", chat(top_k=1.5), 400, "top_k", "integer"),
    ("max_tokens negative", chat(max_tokens=-1), 400, "max_tokens", "from 1"),
    ("max_tokens zero", chat(max_tokens=0), 400, "max_tokens", "from 1"),
    ("max_tokens as text", chat(max_tokens="9"), 400, "max_tokens", "integer"),
    ("both limits", chat(max_tokens=1, max_completion_tokens=2), 400, None, "exclude"),
    ("seed negative", chat(seed=-1), 400, "seed", "from 0"),
    ("presence", chat(presence_penalty=3), 400, "presence_penalty", "from -2 to 2"),
    ("repetition", chat(repetition_penalty=0), 400, "repetition_penalty", "above 0"),
    ("bias key", chat(logit_bias={"a": 1}), 400, "logit_bias", "token ids"),
    ("bias value", chat(logit_bias={"1": 101}), 400, "logit_bias", "-100"),
    ("stop number", chat(stop=3), 400, "stop", "list of texts"),
    ("stop empty", chat(stop=[""]), 400, "stop", "1 to 256 bytes"),
    ("stop many", chat(stop=["x"] * 17), 400, "stop", "at most 16"),
    ("too many answers", chat(n=9), 400, "n", "from 1 to 8"),
    ("functions", chat(functions=[{}]), 400, "functions", "use tools"),
    ("top_logprobs alone", chat(top_logprobs=2), 400, None, "needs logprobs"),
    ("top_logprobs many", chat(logprobs=True, top_logprobs=21), 400, "top_logprobs", "0 to 20"),
    ("stream_options alone", chat(stream_options={}), 400, None, "needs stream"),
    ("stream as text", chat(stream="yes"), 400, "stream", "boolean"),
    ("scenario", chat(thermesh={"scenario": "poker"}), 400, "thermesh.scenario", "dialogue"),
    ("mode", chat(thermesh={"mode": "off"}), 400, "thermesh.mode", "observe"),
    ("session", chat(thermesh={"session_id": "a b"}), 400, "thermesh.session_id", "1 to 64"),
    ("deadline", chat(thermesh={"deadline_ms": 0}), 400, "thermesh.deadline_ms", "from 1"),
    (
        "range upside down",
        chat(thermesh={"temperature_range": {"minimum": 1, "maximum": 0.5}}),
        400,
        "thermesh.temperature_range",
        "below minimum",
    ),
    (
        "program without kind",
        chat(thermesh={"program": {"temperature": 1}}),
        400,
        "thermesh.program",
        "kind",
    ),
    (
        "edt base",
        chat(thermesh={"program": {"kind": "edt", "base_temperature": 3, "theta": 1}}),
        400,
        "thermesh.program.base_temperature",
        "from 0.1 to 2",
    ),
    (
        "program and temperature",
        chat(temperature=1, thermesh={"program": {"kind": "fixed", "temperature": 1}}),
        400,
        None,
        "exclude",
    ),
    ("body a list", [1], 400, None, "object"),
    ("body a text", "hello", 400, None, "object"),
]


async def test_every_bad_chat_body_is_named(app):
    """Status, param and message of the whole table; afterwards a good request is answered."""
    wrong = []
    for name, body, status, param, text in CASES:
        response = await app.http.post(CHAT, json=body)
        error = response.json()["error"]
        right = response.status_code == status and text in error["message"]
        right &= param is None or error["param"] == param
        right &= error["type"] == "invalid_request_error"
        if not right:
            wrong.append((name, response.status_code, error))
    healthy = await app.chat()

    assert wrong == []
    assert healthy.status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": MODEL}, "prompt"),
        ({"model": MODEL, "prompt": ""}, "prompt"),
        ({"model": MODEL, "prompt": ["a", ""]}, "prompt"),
        ({"model": MODEL, "prompt": [-1]}, "prompt"),
        ({"model": MODEL, "prompt": "a", "echo": True}, "echo"),
        ({"model": MODEL, "prompt": "a", "suffix": "b"}, "suffix"),
        ({"model": MODEL, "prompt": "a", "best_of": 2}, "best_of"),
        ({"model": MODEL, "prompt": "a", "messages": []}, "messages"),
    ],
)
async def test_bad_text_completions_are_named(app, body, param):
    """The older API refuses what it does not do."""
    response = await app.http.post("/v1/completions", json=body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b'{"model": ', JSON, 400, "invalid_json"),
        (b"", JSON, 400, "invalid_field"),
        (b"\xff\xfe", JSON, 400, None),
        (b'{"temperature": NaN}', JSON, 400, None),
        (json.dumps(chat()).encode(), {"content-type": "text/plain"}, 415, None),
        (json.dumps(chat()).encode(), {}, 415, "unsupported_media_type"),
        (b" " * 1_100_000, JSON, 413, "body_too_large"),
    ],
)
async def test_what_is_no_json_body(app, content, headers, status, code):
    """Malformed JSON, a wrong content type and a long body have their own status."""
    response = await app.http.post(CHAT, content=content, headers=headers)

    assert response.status_code == status
    assert code is None or response.json()["error"]["code"] == code


async def test_a_long_body_without_a_length_is_refused_while_it_comes(app):
    """A chunked body is cut off at the bound."""
    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b" " * 65_536

    response = await app.http.post(CHAT, content=endless(), headers=JSON)

    assert response.status_code == 413
    assert sent < 64


async def test_unknown_addresses_and_methods(app):
    """They are told in the same form."""
    unknown = await app.http.get("/v2/chat")
    method = await app.http.get(CHAT)
    model = await app.http.get("/v1/models/gpt-9")

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")
    assert method.status_code == 405
    assert (model.status_code, model.json()["error"]["code"]) == (404, "model_not_found")


async def test_null_and_the_official_clients_own_fields_are_taken(app):
    """What the official client echoes from an answer may come back in a conversation."""
    echoed = {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": None}
    parts = {"role": "user", "content": [{"type": "text", "text": "and you?"}]}
    response = await app.chat(
        messages=[{"role": "developer", "content": "be kind"}, *MESSAGES, echoed, parts],
        temperature="auto",
        top_p=None,
        stop=None,
        n=1,
        response_format={"type": "text"},
        tools=None,
    )
    turns = app.inference.calls[0].start.chat.messages

    assert response.status_code == 200
    assert [turn.role for turn in turns] == [1, 2, 3, 2]
    assert turns[3].content == "and you?"


@pytest.mark.parametrize(
    ("body", "headers", "status", "param"),
    [
        ({"decision_id": "dec-1", "score": 1}, {}, 400, "id"),
        ({"id": "f", "score": 1}, {}, 400, "decision_id"),
        ({"id": "f", "decision_id": "dec-1"}, {}, 400, None),
        ({"id": "f", "decision_id": "dec-1", "score": 2}, {}, 400, "score"),
        ({"id": "f", "decision_id": "dec-1", "rating": "ok"}, {}, 400, "rating"),
        ({"id": "f", "decision_id": "dec-1", "score": 1, "rating": "up"}, {}, 400, None),
        ({"id": "f g", "decision_id": "dec-1", "score": 1}, {}, 400, "id"),
        ({"id": "f", "decision_id": "d", "score": 1}, {"idempotency-key": "g"}, 400, "id"),
        ({"decision_id": "d", "score": 1}, {"idempotency-key": "g h"}, 400, "id"),
        ({"id": "f", "decision_id": "dec-unknown", "score": 1}, {}, 404, "decision_id"),
    ],
)
async def test_bad_feedback_is_named(app, body, headers, status, param):
    """Feedback errors tell the field and what is allowed."""
    response = await app.http.post("/v1/feedback", json=body, headers=headers)

    assert response.status_code == status, response.text
    assert param is None or response.json()["error"]["param"] == param


async def test_feedback_counts_once(app):
    """202, then 200 for the same, 409 for other content; the state can be asked for."""
    body = {"id": "fb-1", "decision_id": "dec-1", "rating": "down", "comment": "too long"}
    first = await app.http.post("/v1/feedback", json=body)
    second = await app.http.post(
        "/v1/feedback",
        json={"decision_id": "dec-1", "score": -1.0},
        headers={"idempotency-key": "fb-1"},
    )
    conflict = await app.http.post("/v1/feedback", json=body | {"rating": "up"})
    state = await app.http.get("/v1/feedback/fb-1")
    unknown = await app.http.get("/v1/feedback/fb-2")

    assert [r.status_code for r in (first, second, conflict)] == [202, 200, 409]
    assert first.json()["state"] == "pending"
    assert second.json()["duplicate"] is True
    assert state.json()["applied_version"] == 8
    assert unknown.status_code == 404
