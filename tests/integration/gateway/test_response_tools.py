"""Functions in /v1/responses, with the official client."""

from __future__ import annotations

import json

import pytest
from gateway_fakes import MODEL
from pydantic import BaseModel

from thermesh.v1 import common_pb2

from .test_structured import CALL, SECOND

pytestmark = pytest.mark.slow

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
CLOCK = {"type": "function", "name": "now", "parameters": None, "strict": None}
TOOLS = [WEATHER, CLOCK]
ASKED = {"role": "user", "content": "What is the weather in Oslo?"}


async def create(client, **options):
    """A response that is not kept."""
    body = {"model": MODEL, "input": [ASKED], "tools": TOOLS, "store": False} | options
    return await client.responses.create(**body)


def start_of(served):
    """The newest start that inference was sent."""
    return served.inference.calls[-1].start


async def test_a_call_is_an_item_of_its_own(served, openai_client):
    """No message, one function_call with arguments, and a response that is complete."""
    served.inference.texts = CALL
    found = await create(openai_client)
    [call] = found.output
    assert (found.status, call.type, call.status) == ("completed", "function_call", "completed")
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo}"})
    assert found.output_text == ""
    assert [tool.name for tool in found.tools] == ["get_weather", "now"]
    assert "get_weather" in start_of(served).chat.messages[0].content


async def test_calls_are_told_while_they_are_written(served, openai_client):
    """Each item is added, its arguments come in deltas, and it is done before the next."""
    served.inference.texts = [*CALL, *SECOND]
    async with openai_client.responses.stream(
        model=MODEL, input=[ASKED], tools=TOOLS, parallel_tool_calls=True, store=False
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    kinds = [event.type.removeprefix("response.") for event in events]
    once = [kind for i, kind in enumerate(kinds) if kind != (kinds[i - 1] if i else "")]
    each = [
        *("output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
    ]
    assert once == ["created", "in_progress", *each, *each, "completed"]
    assert kinds.count("function_call_arguments.delta") > 2
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [call.name for call in final.output] == ["get_weather", "now"]
    deltas = [e.delta for e in events if e.type.endswith("arguments.delta") and not e.output_index]
    assert "".join(deltas) == final.output[0].arguments
    assert len({call.call_id for call in final.output}) == 2


async def test_words_are_told_as_words_where_functions_are_offered(served, openai_client):
    """What only begins like a call is text, streamed and whole."""
    served.inference.texts = ["<tool", " box>", " is", " open"]
    assert (await create(openai_client)).output_text == "<tool box> is open"
    stream = await create(openai_client, stream=True)
    deltas = [e.delta async for e in stream if e.type == "response.output_text.delta"]
    assert "".join(deltas) == "<tool box> is open"


async def test_a_call_that_is_cut_says_so(served, openai_client):
    """The item and the response are incomplete, with what came of the arguments."""
    served.inference.texts = CALL[:5]
    served.inference.finish_reason = common_pb2.FINISH_REASON_LENGTH
    found = await create(openai_client, max_output_tokens=5)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (found.output[0].status, found.output[0].arguments) == ("incomplete", '{"city": "Os')


async def test_results_are_shown_to_the_model(served, openai_client):
    """Output of one response and the results of its calls are the input of the next."""
    served.inference.texts = CALL
    first = await create(openai_client)
    result = {
        "type": "function_call_output",
        "call_id": first.output[0].call_id,
        "output": "12 degrees",
    }
    served.inference.texts = ["Twelve."]
    second = await create(openai_client, input=[ASKED, *first.output, result])
    _, asked, called, told = start_of(served).chat.messages
    assert second.output_text == "Twelve."
    assert asked.content == ASKED["content"]
    assert called.role == common_pb2.ROLE_ASSISTANT
    assert called.content == "".join(CALL)
    assert (told.role, told.content.split("\n")[1]) == (common_pb2.ROLE_USER, "12 degrees")


@pytest.mark.parametrize(
    ("choice", "grammar", "names"),
    [
        ("required", "start: calls", ["get_weather", "now"]),
        ({"type": "function", "name": "now"}, "start: calls", ["now"]),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "now"}],
            },
            "start: ANSWER | calls",
            ["now"],
        ),
    ],
)
async def test_the_choice_is_a_matter_of_the_grammar(served, openai_client, choice, grammar, names):
    """Required leaves no words, a named function no other call."""
    found = await create(openai_client, tool_choice=choice)
    lark = start_of(served).constraint.lark
    assert grammar in lark
    assert [name for name in ("get_weather", "now") if name in lark] == names
    told = found.tool_choice
    assert (told if isinstance(told, str) else told.model_dump(exclude_unset=True)) == choice


async def test_none_leaves_the_functions_out(served, openai_client):
    """The model neither hears of them nor is held to a grammar."""
    await create(openai_client, tool_choice="none")
    assert not start_of(served).HasField("constraint")
    assert len(start_of(served).chat.messages) == 1


async def test_a_schema_binds_the_words_beside_functions(served, openai_client):
    """`parse` sends a class as schema, and reads what fits it."""

    class Place(BaseModel):
        city: str

    served.inference.texts = ['{"city": "Oslo"}']
    found = await openai_client.responses.parse(
        model=MODEL, input=[ASKED], tools=TOOLS, text_format=Place
    )
    assert found.output_parsed == Place(city="Oslo")
    assert "start: answer | calls" in start_of(served).constraint.lark


async def test_telemetry_goes_with_what_is_told(served, openai_client):
    """Tokens that were held back as markup come with the first event after them."""
    served.inference.texts = CALL
    stream = await create(openai_client, stream=True, extra_body={"thermesh": {"telemetry": True}})
    events = [event async for event in stream]
    told = [
        token["text"]
        for event in events[:-1]
        for token in (getattr(event, "thermesh", None) or {}).get("tokens", ())
    ]
    whole = [token["text"] for token in events[-1].response.thermesh["tokens"]]
    assert whole == CALL
    assert told == CALL[: len(told)]
    assert len(told) >= len(CALL) - 1


def named(**choice):
    """A body with two functions and a choice."""
    return {"tools": TOOLS, "tool_choice": choice}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (named(type="function", name="x"), "tool_choice"),
        (named(type="allowed_tools", mode="auto", tools=[]), "tool_choice.tools"),
        (named(type="web_search"), "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [CLOCK, CLOCK]}, "tools"),
        ({"tools": [CLOCK | {"name": "a.b"}]}, "tools[0].name"),
        ({"tools": [CLOCK | {"parameters": {"type": "array"}}]}, "tools[0].parameters"),
        ({"input": [{"type": "reasoning", "id": "a"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "now", "arguments": "{}"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"include": ["reasoning.thoughts"]}, "include"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"truncation": "auto"}, "truncation"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(app, body, param):
    """400 with the field; nothing is opened."""
    answer = await app.http.post("/v1/responses", json={"input": "hello"} | body)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["param"] or "").startswith(param), answer.text
    assert app.inference.calls == []
