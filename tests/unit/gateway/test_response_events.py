"""Events of a response: complete, in order, and the same when they are told again."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.kept import Kept
from services.gateway.rest.response_events import ResponseEvents, again
from services.gateway.tools import call_text

pytestmark = pytest.mark.slow

CALLS = call_text("now", "{}") + "\n" + call_text("get", '{"a": "}<tool_call>"}')
texts = st.sampled_from(["", "Paris is it.", "<tool box>", "<too", CALLS, CALLS[:70], CALLS[:20]])


@st.composite
def pieces(draw):
    """A text cut anywhere."""
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    bounds = [0, *cuts, len(text)]
    return [(text[a:b], 1) for a, b in itertools.pairwise(bounds)]


def tell(told, may_call, status):
    """All events of an answer, and what is kept of it."""
    events = ResponseEvents("x", may_call=may_call)
    whole = {
        "id": "resp_x",
        "status": "in_progress",
        "output": [],
        "usage": None,
        "incomplete_details": None,
        "tools": [{}] if may_call else [],
        "tool_choice": "auto",
        "thermesh": {"decision_id": "dec-1"},
    }
    found = [*events.opening(whole)]
    for text, _ in told:
        found += events.pieces(text, [])
    found += events.closing(status)
    whole = {**whole, "status": status, "output": events.items(status)}
    return [*found, *events.last(whole)], Kept(whole, (), tuple(told))


@given(pieces(), st.booleans(), st.sampled_from(["completed", "incomplete"]))
def test_what_is_told_again_is_what_was_told(told, may_call, status):
    """Kinds, numbers and members."""
    events, kept = tell(told, may_call, status)
    assert list(again(kept)) == events
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@given(pieces(), st.booleans(), st.sampled_from(["completed", "incomplete"]))
def test_deltas_add_up_and_every_item_has_an_end(told, may_call, status):
    """What was added is done, with the text of its deltas, and is in the response."""
    events, kept = tell(told, may_call, status)
    added, done, written = [], [], {}
    for event in events:
        if event["type"] == "response.output_item.added":
            added.append(event["item"]["id"])
        elif event["type"] == "response.output_item.done":
            done.append(event["item"])
        elif event["type"].endswith(".delta"):
            written[event["item_id"]] = written.get(event["item_id"], "") + event["delta"]
    assert added == [item["id"] for item in done]
    assert done == kept.response["output"] != []
    for item in done:
        text = item["arguments"] if "arguments" in item else item["content"][0]["text"]
        assert written.get(item["id"], "") == text
