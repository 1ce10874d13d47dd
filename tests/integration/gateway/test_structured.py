"""response_format and tools, through the official client and by hand."""

from __future__ import annotations

import json

import gateway_fakes as fakes
import pytest

from services.gateway.tools import MAX_PARALLEL_CALLS
from thermesh.errors import InvalidArgument
from thermesh.v1 import chat_pb2, common_pb2

from .conftest import chat_body

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather now.", "parameters": SCHEMA},
}
CLOCK = {"type": "function", "function": {"name": "now"}}
CALL = [
    "<tool",
    "_call>\n{",
    '"name": "get_',
    'weather", "arguments": {"ci',
    'ty": "Os',
    'lo}"}}',
    "\n</tool_call>",
]
SECOND = ['\n<tool_call>\n{"name": "now", "arguments": {', "}}\n</tool", "_call>"]
USER = [{"role": "user", "content": "What is the weather in Oslo?"}]


def start_of(served):
    """The newest start that inference was sent."""
    return served.inference.calls[-1].start


async def ask(client, **options):
    """A chat completion by the official client."""
    return await client.chat.completions.create(model=fakes.MODEL, messages=USER, **options)


async def streamed(client, **options):
    """All chunks of a streamed chat completion."""
    return [chunk async for chunk in await ask(client, stream=True, **options)]


async def test_a_schema_reaches_inference_as_it_was_written(served, openai_client):
    """response_format json_schema becomes the constraint of the start."""
    schema = {"name": "place", "schema": SCHEMA, "strict": True}
    served.inference.texts = ['{"city": ', '"Oslo"}']
    answer = await ask(
        openai_client, response_format={"type": "json_schema", "json_schema": schema}
    )
    assert json.loads(answer.choices[0].message.content) == {"city": "Oslo"}
    assert answer.choices[0].finish_reason == "stop"
    assert json.loads(start_of(served).constraint.json_schema) == SCHEMA


async def test_a_model_class_is_parsed_by_the_client(served, openai_client):
    """`parse` of the official client sends a pydantic class as schema and reads it back."""
    from pydantic import BaseModel  # noqa: PLC0415  # only this test needs it

    class Place(BaseModel):
        city: str

    served.inference.texts = ['{"city": "Oslo"}']
    answer = await openai_client.chat.completions.parse(
        model=fakes.MODEL, messages=USER, response_format=Place
    )
    assert answer.choices[0].message.parsed == Place(city="Oslo")


async def test_any_object_and_plain_text(served):
    """json_object is a constraint of its own; text is none."""
    await served.chat(response_format={"type": "json_object"})
    assert start_of(served).constraint.WhichOneof("kind") == "json_object"
    await served.chat(response_format={"type": "text"})
    assert not start_of(served).HasField("constraint")


async def test_the_model_is_told_of_the_functions(served, openai_client):
    """The system turn lists them; the grammar lets the model answer or call."""
    await ask(openai_client, tools=[WEATHER, CLOCK])
    system, user = start_of(served).chat.messages
    assert system.role == common_pb2.ROLE_SYSTEM
    assert '"name": "get_weather"' in system.content
    assert "The weather now." in system.content
    assert user.content == USER[0]["content"]
    assert "start: ANSWER | calls" in start_of(served).constraint.lark


@pytest.mark.parametrize(
    ("choice", "grammar", "names"),
    [
        ("required", "start: calls", ["get_weather", "now"]),
        ({"type": "function", "function": {"name": "now"}}, "start: calls", ["now"]),
        ("auto", "start: ANSWER | calls", ["get_weather", "now"]),
    ],
)
async def test_tool_choice_is_a_matter_of_the_grammar(
    served, openai_client, choice, grammar, names
):
    """required leaves no other answer, a named function no other call."""
    await ask(openai_client, tools=[WEATHER, CLOCK], tool_choice=choice)
    lark = start_of(served).constraint.lark
    assert grammar in lark
    assert [name for name in ("get_weather", "now") if name in lark] == names


async def test_tool_choice_none_leaves_the_functions_out(served, openai_client):
    """none neither tells of functions nor constrains the answer."""
    answer = await ask(openai_client, tools=[WEATHER], tool_choice="none")
    assert not start_of(served).HasField("constraint")
    assert len(start_of(served).chat.messages) == 1
    assert answer.choices[0].message.content == "Paris is it."


async def test_a_call_comes_as_tool_calls(served, openai_client):
    """The client sees a function, its arguments and the finish reason tool_calls."""
    served.inference.texts = CALL
    answer = await ask(openai_client, tools=[WEATHER])
    [choice] = answer.choices
    [call] = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo}"}
    assert call.id.startswith("call_")


async def test_calls_stream_as_deltas(served, openai_client):
    """Deltas carry index, id and name once, then pieces of the arguments."""
    served.inference.texts = [*CALL, *SECOND]
    chunks = await streamed(openai_client, tools=[WEATHER, CLOCK], parallel_tool_calls=True)
    deltas = [delta for c in chunks for delta in c.choices[0].delta.tool_calls or ()]
    names = {delta.index: delta.function.name for delta in deltas if delta.id}
    written = ["", ""]
    for delta in deltas:
        written[delta.index] += delta.function.arguments
    assert names == {0: "get_weather", 1: "now"}
    assert [json.loads(text) for text in written] == [{"city": "Oslo}"}, {}]
    assert len([delta for delta in deltas if delta.index == 0]) > 1
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(c.choices[0].delta.content for c in chunks)
    assert f"{{0,{MAX_PARALLEL_CALLS - 1}}}" in start_of(served).constraint.lark


async def test_the_clients_own_accumulator_reads_the_deltas(served, openai_client):
    """`stream` of the official client puts a whole call together."""
    served.inference.texts = CALL
    stream = openai_client.chat.completions.stream(
        model=fakes.MODEL,
        messages=USER,
        tools=[WEATHER | {"function": WEATHER["function"] | {"strict": True}}],
    )
    async with stream as events:
        final = await events.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Oslo}"}


async def test_schemas_of_others_are_enforced_as_far_as_they_can_be(served, openai_client):
    """Keywords without a grammar are left to the model, unless the tool is strict."""
    for strict, lenient in ((None, True), (False, True), (True, False)):
        function = WEATHER["function"] | {"strict": strict}
        await ask(openai_client, tools=[WEATHER | {"function": function}])
        assert ('"lenient": true' in start_of(served).constraint.lark) is lenient


async def test_every_one_of_several_answers_has_its_calls(served, openai_client):
    """With n, each choice tells its own calls under its own index."""
    served.inference.texts = CALL
    answer = await ask(openai_client, tools=[WEATHER], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len({choice.message.tool_calls[0].id for choice in answer.choices}) == 2
    chunks = await streamed(openai_client, tools=[WEATHER], n=2)
    ended = {c.choices[0].index: c.choices[0].finish_reason for c in chunks}
    assert ended == {0: "tool_calls", 1: "tool_calls"}


async def test_text_goes_on_as_text_where_functions_are_offered(served, openai_client):
    """What only begins like a call is text, streamed and whole."""
    served.inference.texts = ["<tool", " box>", " is", " open"]
    chunks = await streamed(openai_client, tools=[WEATHER])
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "<tool box> is open"
    assert chunks[-1].choices[0].finish_reason == "stop"
    served.inference.texts = ["<too"]
    assert (await ask(openai_client, tools=[WEATHER])).choices[0].message.content == "<too"
    chunks = await streamed(openai_client, tools=[WEATHER])
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "<too"


async def test_a_call_that_is_cut_is_no_tool_call_reason(served, openai_client):
    """A call that max_tokens cut keeps finish_reason length and what came of it."""
    served.inference.texts = CALL[:5]
    served.inference.finish_reason = common_pb2.FINISH_REASON_LENGTH
    answer = await ask(openai_client, tools=[WEATHER], max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city": "Os'


async def test_results_of_calls_are_shown_to_the_model(served, openai_client):
    """The client's own message and its results become turns that the model reads."""
    served.inference.texts = CALL
    first = await ask(openai_client, tools=[WEATHER])
    called = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": text}
        for text in ("12 degrees", "rain")
    ]
    await openai_client.chat.completions.create(
        model=fakes.MODEL, messages=[*USER, called, *results], tools=[WEATHER]
    )
    _, _, assistant, result = start_of(served).chat.messages
    assert assistant.content.startswith('<tool_call>\n{"name": "get_weather", "arguments": {"city"')
    assert result.role == common_pb2.ROLE_USER
    assert result.content.split("\n")[1::3] == ["12 degrees", "rain"]


async def test_inferences_refusal_names_the_clients_field(served):
    """A schema that does not compile is a 400 that names response_format."""
    message = 'json_schema does not compile: Unimplemented keys: ["not"]'
    served.inference.refusal = InvalidArgument(message, field="start.constraint.json_schema")
    schema = {"name": "a", "schema": {"not": {}}}
    for stream in (False, True):
        refused = await served.chat(
            response_format={"type": "json_schema", "json_schema": schema}, stream=stream
        )
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "response_format"
        assert refused.json()["error"]["message"] == message


async def test_converse_takes_every_kind_of_constraint(native, chat_stub):
    """The native door hands on what REST has no words for."""
    for constraint in (
        common_pb2.OutputConstraint(regex="[0-9]+"),
        common_pb2.OutputConstraint(choice=common_pb2.ChoiceConstraint(options=["a", "b"])),
        common_pb2.OutputConstraint(json_object=common_pb2.JsonObjectConstraint()),
        common_pb2.OutputConstraint(lark='start: "a"'),
    ):
        turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content="How many?")
        call = chat_stub.Converse()
        start = chat_pb2.ConverseStart(messages=[turn], constraint=constraint)
        await call.write(chat_pb2.ConverseRequest(start=start))
        assert [message async for message in call]
        assert start_of(native).constraint == constraint


def schema_format(**members):
    """A body with a response_format of a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": members}}


REFUSED = [
    ("unknown format", {"response_format": {"type": "xml"}}, "response_format.type", "json_object"),
    ("no schema", {"response_format": {"type": "json_schema"}}, "response_format", "json_schema"),
    (
        "schema of text",
        {"response_format": {"type": "text", "json_schema": {"name": "a", "schema": {}}}},
        "response_format",
        "type json_schema",
    ),
    ("no name", schema_format(schema={}), "response_format.json_schema.name", "required"),
    (
        "bad name",
        schema_format(name="a b", schema={}),
        "response_format.json_schema.name",
        "pattern",
    ),
    ("no object", schema_format(name="a", schema=[]), "response_format.json_schema.schema", "dict"),
    (
        "large",
        schema_format(name="a", schema={"a": "x" * 65_536}),
        "response_format.json_schema.schema",
        "65536 bytes",
    ),
    (
        "no such tool",
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "tool_choice",
        "must name one of tools: now",
    ),
    ("choice without tools", {"tool_choice": "required"}, "tool_choice", "needs tools"),
    (
        "named without tools",
        {"tool_choice": {"type": "function", "function": {"name": "now"}}},
        "tool_choice",
        "needs tools",
    ),
    ("unknown choice", {"tools": [CLOCK], "tool_choice": "any"}, "tool_choice", "auto, required"),
    ("same name", {"tools": [CLOCK, CLOCK]}, "tools", "different names"),
    ("other kind", {"tools": [{"type": "web_search"}]}, "tools[0].type", "no other tools"),
    (
        "bad function",
        {"tools": [{"type": "function", "function": {"name": "a.b"}}]},
        "tools[0].function.name",
        "pattern",
    ),
    (
        "no parameters",
        {
            "tools": [
                {"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}
            ]
        },
        "tools[0].function.parameters",
        "of an object",
    ),
    ("too many", {"tools": [CLOCK] * 129}, "tools", "128"),
    (
        "too large",
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": f"f{i}", "parameters": {"description": "x" * 40_000}},
                }
                for i in range(2)
            ]
        },
        "tools",
        "65536 bytes",
    ),
    (
        "result of nothing",
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages[0]",
        "tool_call_id",
    ),
    (
        "calls of a user",
        {
            "messages": [
                {
                    "role": "user",
                    "content": "x",
                    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
                }
            ]
        },
        "messages[0]",
        "assistant",
    ),
]


@pytest.mark.parametrize(
    ("options", "param", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
async def test_bad_structure_is_refused_by_name(app, options, param, told):
    """400 with the field and what is allowed; inference is not asked."""
    refused = await app.http.post("/v1/chat/completions", json=chat_body(**options))
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param
    assert told in refused.json()["error"]["message"]
    assert not app.inference.calls
