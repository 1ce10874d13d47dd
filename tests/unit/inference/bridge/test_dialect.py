"""What of a sampling reaches a server, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.bridge import dialect as dialects
from services.inference.bridge.dialect import DIALECTS
from services.inference.request import ChatTurn, Context, Start
from services.inference.sampling.constraint import Kind, OutputConstraint
from services.inference.sampling.settings import Dynatemp, Edt, Fixed, Guard, Penalties, Sampling
from thermesh.errors import InvalidArgument

CONTEXT = Context("req-1")
FULL = Sampling(
    program=Dynatemp(0.8, 0.3, 1.5),
    guard=Guard(top_n_sigma=1.0, min_p=0.05, top_p=0.9, top_k=40),
    penalties=Penalties(1.1, 0.2, 0.3),
    logit_bias=((5, -100.0),),
)
SHARED = {
    "top_p": 0.9,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "logit_bias": {"5": -100.0},
    "temperature": 0.8,
}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("openai", {}),
        ("vllm", {"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1}),
        (
            "llama.cpp",
            {
                "top_k": 40,
                "min_p": 0.05,
                "top_n_sigma": 1.0,
                "repeat_penalty": 1.1,
                "dynatemp_range": 0.3,
                "dynatemp_exponent": 1.5,
            },
        ),
    ],
)
def test_each_server_gets_what_it_knows_in_its_own_words(name, more):
    """Nothing is sent under a name that the server would ignore."""
    dialect = DIALECTS[name]
    assert dialect.sampling_fields(dialect.usable(FULL)) == {**SHARED, **more}


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_usable_is_said_again_without_loss(name):
    """What a server can do is a fixed point: told twice, it stays the same."""
    dialect = DIALECTS[name]
    assert dialect.usable(dialect.usable(FULL)) == dialect.usable(FULL)


@given(base=st.floats(0.1, 2.0), theta=st.floats(0.01, 10))
def test_a_program_nobody_behind_knows_is_held_at_its_base(base, theta):
    """EDT becomes a fixed temperature, and says so in what is applied."""
    usable = DIALECTS["llama.cpp"].usable(Sampling(Edt(base, theta)))
    assert usable.program == Fixed(base)


@pytest.mark.parametrize(
    ("start", "path", "fields"),
    [
        (
            Start(CONTEXT, chat=(ChatTurn("user", "hi"),)),
            "chat/completions",
            {"messages": [{"role": "user", "content": "hi"}]},
        ),
        (Start(CONTEXT, prompt="once"), "completions", {"prompt": "once"}),
        (Start(CONTEXT, token_ids=(1, 2)), "completions", {"prompt": [1, 2]}),
    ],
)
def test_each_input_goes_to_its_endpoint(start, path, fields):
    """Turns, text and tokens are three different questions."""
    assert dialects.path_and_input(start) == (path, fields)


def test_constraints_that_openai_has_words_for_are_passed_on():
    """JSON is; an expression is refused by its own field."""
    schema = OutputConstraint(Kind.JSON_SCHEMA, '{"type": "object"}')
    assert dialects.constraint_fields(None) == {}
    assert dialects.constraint_fields(OutputConstraint(Kind.JSON_OBJECT)) == {
        "response_format": {"type": "json_object"}
    }
    sent = dialects.constraint_fields(schema)["response_format"]["json_schema"]
    assert sent["schema"] == {"type": "object"}
    with pytest.raises(InvalidArgument, match="only json_object, json_schema") as refused:
        DIALECTS["openai"].check_constraint(OutputConstraint(Kind.REGEX, "a+"))
    assert refused.value.field == "start.constraint.regex"
