"""Reading what servers send, whatever they send."""

from __future__ import annotations

import json

import httpx
import pytest
from fake_upstream import FakeUpstream, spoken
from hypothesis import given
from hypothesis import strategies as st

from services.inference.bridge.dialect import DIALECTS
from services.inference.bridge.rest import RestUpstream, chunk
from services.inference.bridge.upstream import (
    UNKNOWN_TOKEN,
    Chunk,
    Completion,
    UpstreamModel,
    UpstreamToken,
)
from services.inference.request import ChatTurn, Context, Start
from services.inference.sampling.settings import DEFAULT
from thermesh import errors


@pytest.fixture
def server():
    """The server behind."""
    return FakeUpstream()


@pytest.fixture
async def upstream(server):
    """The bridge's end of it."""
    made = RestUpstream(
        "http://behind/v1/", DIALECTS["openai"], "secret", transport=httpx.ASGITransport(server)
    )
    yield made
    await made.close()


async def read(upstream):
    """All chunks of one request."""
    start = Start(Context("req-1"), chat=(ChatTurn("user", "hi"),))
    return [item async for item in upstream.stream(Completion(start, "behind", DEFAULT))]


async def test_an_answer_is_read_to_its_end(server, upstream):
    """Text, then why it ended, then what it cost; the key goes along."""
    chunks = await read(upstream)
    texts = [token.text for item in chunks for token in item.tokens]
    assert texts == ["one", " two", " three"]
    assert chunks[-2] == Chunk(finish_reason="stop")
    assert chunks[-1] == Chunk(prompt_tokens=9, completion_tokens=3)
    assert server.keys == ["Bearer secret"]


async def test_its_models_are_listed_with_their_context(server, upstream):
    """vLLM and llama.cpp tell the context in different places; some do not tell."""
    server.models = {
        "data": [
            {"id": "a", "max_model_len": 4096, "created": 11},
            {"id": "b", "meta": {"n_ctx_train": 8192}},
            {"id": "c"},
        ]
    }
    assert await upstream.models() == [
        UpstreamModel("a", 4096, 11),
        UpstreamModel("b", 8192),
        UpstreamModel("c"),
    ]


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, errors.InvalidArgument, r"top_p must be in"),
        (401, errors.FailedPrecondition, "THERMESH_ENGINE_KEY"),
        (404, errors.NotFound, "does not serve that model"),
        (429, errors.ResourceExhausted, "full"),
        (500, errors.Unavailable, "failed"),
        (503, errors.ResourceExhausted, "full"),
    ],
)
async def test_each_refusal_becomes_the_error_that_it_is(server, upstream, status, error, says):
    """A client learns what to do; a server's inner troubles stay with it."""
    server.status, server.headers = status, [(b"retry-after", b"7")]
    with pytest.raises(error, match=says) as refused:
        await read(upstream)
    assert "secret" not in refused.value.message
    if error is errors.ResourceExhausted:
        assert refused.value.retry_after == 7.0


async def test_a_server_that_is_away_is_unavailable():
    """Nobody listens: the error says so, without an address."""
    upstream = RestUpstream("http://127.0.0.1:1/v1", DIALECTS["openai"])
    try:
        with pytest.raises(errors.Unavailable, match="does not answer") as refused:
            await read(upstream)
        assert "127.0.0.1" not in refused.value.message
        with pytest.raises(errors.Unavailable):
            await upstream.models()
    finally:
        await upstream.close()


async def test_an_error_in_mid_answer_is_told(server, upstream):
    """Servers that fail while they stream say so in an event."""
    server.events = [*spoken("one")[:1], '{"error": {"message": "out of memory"}}']
    with pytest.raises(errors.Unavailable, match="failed while it decoded"):
        await read(upstream)


def test_log_probabilities_of_both_endpoints_are_read():
    """Chat and text completions carry them in different shapes."""
    token = {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.5}]}
    chat = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [token]}}]}
    listed = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1.5}]}
    text = {"choices": [{"text": "a", "logprobs": listed}]}
    expected = (UpstreamToken("a", -0.5, ((UNKNOWN_TOKEN, "b", -1.5),)),)
    assert chunk(json.dumps(chat)).tokens == expected
    assert chunk(json.dumps(text)).tokens == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
shaped = st.fixed_dictionaries({}, optional={"choices": json_values, "usage": json_values})


@given(st.text() | json_values.map(json.dumps) | shaped.map(json.dumps))
def test_whatever_a_server_sends_is_a_chunk_or_unavailable(data):
    """No shape of JSON, and no other text, brings the bridge down."""
    try:
        read_chunk = chunk(data)
    except errors.Unavailable:
        return
    assert isinstance(read_chunk, Chunk)
