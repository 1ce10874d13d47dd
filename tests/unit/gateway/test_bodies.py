"""Bodies to asks: whatever the schema lets in, the contract allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway import limits
from services.gateway.asking import Priority, Prompt, Role, TokenPrompt
from services.gateway.decoding import DynatempProgram, EdtProgram, FixedProgram, ResidualProgram
from services.gateway.rest import asks
from services.gateway.rest.bodies import ChatBody, CompletionBody, FeedbackBody
from services.gateway.rest.problems import param_of, rest_param

MESSAGES = [{"role": "user", "content": "hi"}]
numbers = st.floats(-3, 12) | st.integers(-3, 300) | st.sampled_from([0, 0.1, 1, 2, 2.0])
anything = numbers | st.none() | st.text(max_size=3) | st.booleans()
NUMERIC = (
    *("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "presence_penalty"),
    *("frequency_penalty", "repetition_penalty", "stop", "logit_bias", "n"),
)


def chat(**members):
    """A validated chat body."""
    return ChatBody.model_validate({"model": "m", "messages": MESSAGES} | members)


@given(st.dictionaries(st.sampled_from(NUMERIC), anything, max_size=5))
def test_what_the_schema_lets_in_the_contract_allows(members):
    """Every accepted body becomes an ask that passes the native door's check too."""
    try:
        body = chat(**members)
    except ValidationError:
        return
    limits.check_ask(asks.chat_ask(body, 1000, ""))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("auto", None), (0, 0.0), (0.1, 0.1), (2, 2.0), (0.55, 0.55)],
)
def test_temperature_pins_or_leaves_it_to_the_policy(value, expected):
    """Absent, null and "auto" are adaptive; a number is kept exactly."""
    ask = asks.chat_ask(chat(temperature=value), 0, "")

    assert ask.constraints.temperature == expected
    assert ask.constraints.pinned == (expected is not None)


@pytest.mark.parametrize("value", [0.05, 0.0999, 2.01, -0.0001, float("inf"), float("nan"), "0.5"])
def test_other_temperatures_are_refused_with_the_range(value):
    """The message names what is allowed."""
    with pytest.raises(ValidationError, match=r"0 \(greedy\) or a number from 0\.1 to 2\.0"):
        chat(temperature=value)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ({"kind": "fixed", "temperature": 0}, FixedProgram(0)),
        ({"kind": "edt", "base_temperature": 0.8, "theta": 1}, EdtProgram(0.8, 1)),
        ({"kind": "dynatemp", "temperature": 1, "range": 0.5}, DynatempProgram(1, 0.5, 1)),
        ({"kind": "residual", "temperature": 1, "slope": -0.5}, ResidualProgram(1, -0.5, 1, 0.1)),
    ],
)
def test_programs_are_read(program, expected):
    """Each kind of program pins."""
    ask = asks.chat_ask(chat(thermesh={"program": program}), 0, "")

    assert ask.constraints.program == expected
    assert ask.constraints.pinned


def test_the_context_is_made_here():
    """The request id is new each time; a relative deadline becomes absolute."""
    body = chat(thermesh={"deadline_ms": 250, "priority": "interactive"})
    first, second = (asks.chat_ask(body, 1_000, "tp") for _ in range(2))

    assert first.context.request_id != second.context.request_id
    assert limits.is_name(first.context.request_id)
    assert first.context.deadline_unix_ms == 1_250
    assert first.context.priority is Priority.INTERACTIVE
    assert (first.context.tenant, first.context.traceparent) == ("default", "tp")


def test_roles_and_parts_become_plain_turns():
    """`developer` is a system turn; text parts are joined; the newest user turn is read."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turns = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "c"},
    ]
    ask = asks.chat_ask(chat(messages=turns), 0, "")

    assert [turn.role for turn in ask.input.messages] == [Role.SYSTEM, Role.USER, Role.ASSISTANT]
    assert (ask.newest_text, ask.turn_count) == ("ab", 3)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("x", [Prompt("x")]),
        (["x"], [Prompt("x")]),
        ([1, 2], [TokenPrompt((1, 2))]),
        ([[1, 2]], [TokenPrompt((1, 2))]),
        (["x", "y"], [Prompt("x"), Prompt("y")]),
        ([[1], "y"], [TokenPrompt((1,)), Prompt("y")]),
    ],
)
def test_prompts_are_text_or_token_ids(prompt, expected):
    """The older API takes both, and several at a time."""
    body = CompletionBody.model_validate({"model": "m", "prompt": prompt})

    assert [ask.input for ask in asks.completion_asks(body, 0, "")] == expected


@pytest.mark.parametrize("prompt", ["", [], [""], ["a", []], [1, "a"], [[1, -1]], {}, None])
def test_prompts_that_say_nothing_are_refused(prompt):
    """An empty one, and lists of neither."""
    with pytest.raises(ValidationError):
        CompletionBody.model_validate({"prompt": prompt})


def test_ratings_are_scores():
    """Thumbs are the ends of the scale."""
    body = {"id": "f", "decision_id": "d"}
    up, down = (
        asks.feedback(FeedbackBody.model_validate(body | {"rating": rating}), "").score
        for rating in ("up", "down")
    )

    assert (up, down) == (1.0, -1.0)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("chat.messages[0].content", "messages[0].content"),
        ("chat", "messages"),
        ("tokens.token_ids", "prompt"),
        ("sampling.guard.top_p", "top_p"),
        ("constraints.penalties.presence", "presence_penalty"),
        ("sampling.program.fixed.temperature", "temperature"),
        ("constraints.temperature_range.minimum", "thermesh.temperature_range.minimum"),
        ("context.session_id", "thermesh.session_id"),
        ("model", "model"),
        ("max_tokens", "max_tokens"),
        ("", ""),
    ],
)
def test_fields_of_the_contract_have_their_rest_names(field, expected):
    """An error of a neighbour names the field as the client wrote it."""
    assert rest_param(field) == expected


def test_locations_are_paths_as_a_client_writes_them():
    """Union branches are no part of the path."""
    location = ("body", "messages", 0, "content", "<parts>", 1, "type")

    assert param_of(location) == "messages[0].content[1].type"


def test_both_doors_know_the_same_scenarios():
    """The schema's names are those that the native door checks."""
    for scenario in limits.SCENARIOS:
        ask = asks.chat_ask(chat(thermesh={"scenario": scenario}), 0, "")
        limits.check_ask(ask)

    schema = ChatBody.model_json_schema()["$defs"]["Extension"]["properties"]["scenario"]
    assert set(schema["anyOf"][0]["enum"]) == set(limits.SCENARIOS)
