"""Events as bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rest.sse import Template, event_bytes

pytestmark = pytest.mark.slow


def chunk(text):
    """A chunk with a text in it."""
    return {"id": "chatcmpl-1", "model": 'a "model"', "choices": [{"delta": {"content": text}}]}


@given(st.text())
def test_a_template_writes_what_encoding_the_whole_writes(text):
    """Whatever has to be escaped."""
    event = Template(chunk).event(text)
    assert event == event_bytes(chunk(text))
    assert json.loads(event.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == text
