"""Function calls told apart from text, however the answer is cut into pieces."""

from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.calls import CallReader
from services.gateway.constraint import JSON_OBJECT
from services.gateway.tools import Choice, Tool, ToolUse, call_text

names = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(max_size=6), values, max_size=3)


def pieces(text: str, cuts: list[int]) -> list[str]:
    """`text` cut at `cuts`."""
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(st.tuples(names, arguments), min_size=1, max_size=3), st.lists(st.integers(0)))
def test_calls_are_read_whole_from_any_pieces(calls, cuts):
    """Names and arguments come out as they went in; nothing is taken for text."""
    text = "\n".join(call_text(name, json.dumps(given)) for name, given in calls)
    reader, written, words = CallReader(), {}, ""
    for piece in pieces(text, cuts):
        told = reader.read(piece)
        words += told.text
        for index, part in told.arguments.items():
            written[index] = written.get(index, "") + part
    assert [(call.name, json.loads(call.arguments)) for call in reader.calls] == calls
    assert [json.loads(written[index]) for index in range(len(calls))] == [a for _, a in calls]
    assert (reader.has_called, words + reader.flush()) == (True, "")


@given(st.text().filter(lambda text: not text.startswith("<tool_call>")), st.lists(st.integers(0)))
def test_text_is_text_from_any_pieces(text, cuts):
    """All text that does not begin as a call comes out unchanged."""
    reader = CallReader()
    read = "".join(reader.read(piece).text for piece in pieces(text, cuts))
    assert (read + reader.flush(), reader.calls, reader.has_called) == (text, [], False)


@given(names, arguments, st.integers(1))
def test_a_call_that_is_cut_is_not_whole(name, given_arguments, cut):
    """Without its last mark no answer counts as a call."""
    text = call_text(name, json.dumps(given_arguments))
    reader = CallReader()
    reader.read(text[: -(cut % len(text)) or -1])
    assert not reader.has_called


def test_a_strict_function_cannot_switch_the_grammar_to_be_lenient():
    """What a schema says to the grammar library is overruled."""
    tool = Tool("f", parameters={"x-guidance": {"lenient": True}, "properties": {}}, is_strict=True)
    grammar = ToolUse((tool,), Choice.REQUIRED).constraint(None).text
    assert "lenient" not in grammar
    assert '"type": "object"' in grammar


def test_an_answer_in_json_stays_possible_beside_calls():
    """With response_format the other way out is that format, not free text."""
    grammar = ToolUse((Tool("f"),)).constraint(JSON_OBJECT).text
    assert "start: answer | calls" in grammar
    assert "ANSWER" not in grammar
