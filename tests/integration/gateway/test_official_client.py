"""Every endpoint and helper of the official client that other tests do not ask for."""

from __future__ import annotations

import openai
import pytest
from gateway_fakes import MODEL
from pydantic import BaseModel

from .test_structured import CALL, USER, WEATHER

pytestmark = pytest.mark.slow

ASKED = {"model": MODEL, "messages": USER}


class Place(BaseModel):
    """What an answer is read as."""

    city: str


async def test_models_are_listed_and_looked_up(openai_client):
    """models.list, models.retrieve, and an unknown one."""
    listed = await openai_client.models.list()
    assert [model.id for model in listed.data] == [MODEL]
    assert (await openai_client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await openai_client.models.retrieve("gpt-9")


async def test_chat_is_parsed_whole_and_streamed(served, openai_client):
    """chat.completions.parse and .stream read a class, with usage where it was asked for."""
    served.inference.texts = ['{"city": ', '"Oslo"}']
    whole = await openai_client.chat.completions.parse(**ASKED, response_format=Place)
    assert whole.choices[0].message.parsed == Place(city="Oslo")
    stream = openai_client.chat.completions.stream(
        **ASKED, response_format=Place, stream_options={"include_usage": True}
    )
    async with stream as events:
        final = await events.get_final_completion()
    assert final.choices[0].message.parsed == Place(city="Oslo")
    assert final.usage.total_tokens == 7


async def test_chat_limits_functions_to_those_allowed(served, openai_client):
    """tool_choice allowed_tools, as chat completions write it."""
    clock = {"type": "function", "function": {"name": "now"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]}
    await openai_client.chat.completions.create(
        **ASKED,
        tools=[WEATHER, clock],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    lark = served.inference.calls[-1].start.constraint.lark
    assert "start: calls" in lark
    assert "get_weather" not in lark


async def test_what_changes_nothing_is_accepted(openai_client):
    """Fields that clients send by habit."""
    await openai_client.chat.completions.create(
        **ASKED,
        store=False,
        modalities=["text"],
        service_tier="auto",
        safety_identifier="a",
        prompt_cache_key="b",
        prompt_cache_retention="24h",
        reasoning_effort="none",
        verbosity="medium",
        user="c",
        metadata={"d": "e"},
    )
    await openai_client.responses.create(
        model=MODEL,
        input="hello",
        store=False,
        background=False,
        truncation="disabled",
        service_tier="default",
        safety_identifier="a",
        prompt_cache_key="b",
        prompt_cache_retention="24h",
        reasoning={"effort": "none"},
        include=["reasoning.encrypted_content"],
        text={"verbosity": "medium"},
    )
    await openai_client.completions.create(model=MODEL, prompt="a", echo=False)


async def test_a_conversation_comes_back_as_other_clients_keep_it(openai_client):
    """Names of speakers, and what LiteLLM and those who join deltas leave in answers."""
    call = {"id": "c", "type": "function", "index": 0}
    call["function"] = {"name": "now", "arguments": "{}"}
    messages = [
        {"role": "user", "name": "ann", "content": "What time is it?"},
        {
            "role": "assistant",
            "name": "bob",
            "content": None,
            "refusal": None,
            "annotations": [],
            "reasoning_content": "none",
            "provider_specific_fields": {"refusal": None},
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "c", "name": "now", "content": "noon"},
    ]
    answer = await openai_client.chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content == "Paris is it."


@pytest.mark.parametrize(
    "options",
    [
        {"store": True},
        {"modalities": ["audio"]},
        {"service_tier": "priority"},
        {"prediction": {"type": "content", "content": "a"}},
        {"reasoning_effort": "low"},
        {"verbosity": "low"},
        {"web_search_options": {}},
        {"audio": {"voice": "a", "format": "wav"}},
        {"functions": [{"name": "a"}]},
        {"function_call": "auto"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_chat_refuses_by_name(served, openai_client, options):
    """400 with the field; nothing is opened."""
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.chat.completions.create(**ASKED, **options)
    [name] = options
    assert caught.value.param.startswith(name)
    assert served.inference.calls == []


@pytest.mark.parametrize(
    "options", [{"echo": True}, {"suffix": "b"}, {"best_of": 2}], ids=lambda each: next(iter(each))
)
async def test_completions_refuse_by_name(openai_client, options):
    """400 with the field."""
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.completions.create(model=MODEL, prompt="a", **options)
    assert caught.value.param == next(iter(options))


async def test_embeddings_come_as_numbers_either_way(openai_client):
    """The client asks for base64 by itself, and reads both; dimensions are refused by name."""
    usual = await openai_client.embeddings.create(model="fake-encoder", input=["ab", "abc"])
    plain = await openai_client.embeddings.create(
        model="fake-encoder", input=["ab", "abc"], encoding_format="float"
    )
    assert [each.embedding for each in usual.data] == [each.embedding for each in plain.data]
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.embeddings.create(model="fake-encoder", input="a", dimensions=2)
    assert caught.value.param == "dimensions"


async def test_raw_and_streaming_answers_are_within_reach(served, openai_client):
    """with_raw_response and with_streaming_response see headers and bytes."""
    raw = await openai_client.chat.completions.with_raw_response.create(**ASKED)
    assert raw.headers["x-thermesh-decision-id"].startswith("dec-")
    assert raw.parse().choices[0].message.content == "Paris is it."
    served.inference.texts = CALL
    asking = openai_client.responses.with_streaming_response
    async with asking.create(model=MODEL, input="hello", store=False) as answer:
        assert answer.headers["x-request-id"].startswith("req-")


async def test_what_is_not_there_is_no_server_error(openai_client):
    """Endpoints that are not served say so."""
    for ask in (
        openai_client.responses.input_tokens.count(model=MODEL, input="hello"),
        openai_client.chat.completions.list(),
        openai_client.conversations.create(),
        openai_client.files.list(),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await ask
        assert caught.value.status_code in {404, 405}
