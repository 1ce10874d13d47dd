"""Several answers to one request: `n` over REST, with the official client."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from gateway_fakes import MODEL

from services.gateway.rest import documents
from thermesh.errors import Internal, ResourceExhausted
from thermesh.testing import eventually

MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = {"model": MODEL, "messages": MESSAGES}


async def test_each_answer_has_its_own_decision_and_place(app):
    """Indices in order, prompt tokens once, completion tokens of all, a plan for each."""
    answer = await app.http.post("/v1/chat/completions", json=CHAT | {"n": 3})
    found = documents.ChatCompletion(**answer.json())
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert found.usage.prompt_tokens == 5
    assert found.usage.completion_tokens == 12
    names = {choice.thermesh.request_id for choice in found.choices}
    assert len(names) == 3
    assert len(app.controller.requests) == 3
    assert app.gateway.admission.inside == 0


async def test_a_pinned_seed_differs_from_answer_to_answer(app):
    """Counted up from the first, so that each can be had again alone."""
    await app.http.post("/v1/chat/completions", json=CHAT | {"n": 3, "seed": 2**64 - 2})
    seeds = [request.constraints.seed for request in app.controller.requests]
    assert sorted(seeds) == [0, 2**64 - 2, 2**64 - 1]


@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_streams_carry_the_index_of_each_answer(openai_client, kind):
    """One id for all; each choice has its text, one end and, at the very end, the usage."""
    options = {"model": MODEL, "n": 3, "stream": True, "stream_options": {"include_usage": True}}
    if kind == "chat":
        stream = await openai_client.chat.completions.create(messages=MESSAGES, **options)
    else:
        stream = await openai_client.completions.create(prompt="hello", **options)
    texts, ends, ids, usages = ["", "", ""], [0, 0, 0], set(), []
    async for chunk in stream:
        ids.add(chunk.id)
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            piece = choice.delta.content if kind == "chat" else choice.text
            texts[choice.index] += piece or ""
            ends[choice.index] += choice.finish_reason is not None
    assert texts == ["Paris is it."] * 3
    assert ends == [1, 1, 1]
    assert len(ids) == 1
    assert [usage.completion_tokens for usage in usages] == [12]


async def test_whole_text_completions_have_n_choices(openai_client):
    """The older API too."""
    found = await openai_client.completions.create(model=MODEL, prompt="hello", n=2)
    assert [(choice.index, choice.text) for choice in found.choices] == [
        (0, "Paris is it."),
        (1, "Paris is it."),
    ]


async def test_each_of_several_prompts_has_n_choices(served, openai_client):
    """Prompt by prompt; each prompt's tokens count once, and its seeds begin anew."""
    found = await openai_client.completions.create(model=MODEL, prompt=["a", "b"], n=2, seed=7)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert found.usage.prompt_tokens == 10
    assert found.usage.completion_tokens == 16
    asked = sorted(
        (call.start.prompt, call.start.context.request_id[36:]) for call in served.inference.calls
    )
    assert asked == [("a", ""), ("a", "-1"), ("b", "-2"), ("b", "-3")]
    seeds = sorted(request.constraints.seed for request in served.controller.requests)
    assert seeds == [7, 7, 8, 8]


async def test_too_many_answers_to_prompts_are_refused(app):
    """The bound is named before anything is opened."""
    body = {"prompt": ["a"] * 17, "n": 2}
    answer = await app.http.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert "at most 32" in answer.json()["error"]["message"]
    assert app.inference.calls == []


@pytest.mark.parametrize("number", [0, 9, -1, 1.5, "2", True])
async def test_the_bound_is_named(app, number):
    """400 before anything is opened."""
    answer = await app.http.post("/v1/chat/completions", json=CHAT | {"n": number})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"
    assert app.inference.calls == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_all(served, stream):
    """No generation goes on and every place is free."""
    served.inference.hangs_after = 1
    body = CHAT | {"n": 4, "stream": stream}
    asking = asyncio.create_task(served.http.post("/v1/chat/completions", json=body))
    await eventually(lambda: served.inference.open_calls == 4, what="four generations")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await eventually(lambda: served.inference.open_calls == 0, what="no generation")
    await eventually(lambda: served.gateway.admission.inside == 0, what="no request inside")


async def test_a_refusal_of_any_is_the_answer(serve_app):
    """Three answers where two places are: 429 at once, and nothing goes on."""
    served = await serve_app(max_requests=2)
    answer = await served.http.post("/v1/chat/completions", json=CHAT | {"n": 3})
    assert answer.status_code == 429
    assert served.gateway.admission.inside == 0
    await eventually(lambda: served.inference.open_calls == 0, what="no generation")


@pytest.mark.parametrize(
    ("error", "status"), [(ResourceExhausted("full", retry_after=1), 429), (Internal("bug"), 500)]
)
async def test_a_refusal_before_the_stream_has_a_status(app, error, status):
    """As with one answer."""
    app.inference.refusal = error
    body = CHAT | {"n": 2, "stream": True}
    answer: httpx.Response = await app.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == status


async def test_an_error_of_one_ends_the_stream_with_an_error(app):
    """Later than the first byte it is an event, and no [DONE] follows."""
    app.inference.fails_after, app.inference.failure = 2, Internal("bug")
    body = CHAT | {"n": 2, "stream": True}
    answer = await app.http.post("/v1/chat/completions", json=body)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if "data:" in line]
    assert "error" in json.loads(events[-1])
    assert "[DONE]" not in answer.text
    assert app.gateway.admission.inside == 0
