"""Embeddings through the REST door, with the official client."""

from __future__ import annotations

import pytest

from services.gateway.rest import documents
from thermesh.errors import ResourceExhausted

PATH = "/v1/embeddings"


async def test_a_text_and_a_list_give_vectors_in_order(app):
    """The body is the document that the reference shows; usage counts tokens."""
    one = await app.http.post(PATH, json={"input": "hello"})
    two = await app.http.post(PATH, json={"input": ["a", "abc"], "model": "fake-encoder"})
    found = documents.EmbeddingsDocument(**two.json())
    assert one.json()["data"][0]["embedding"] == [5.0, 0.5]
    assert [item.embedding for item in found.data] == [[1.0, 0.5], [3.0, 0.5]]
    assert [item.index for item in found.data] == [0, 1]
    assert found.usage.prompt_tokens == 6


async def test_the_official_client_reads_base64_and_floats(openai_client):
    """It asks for base64 unless told otherwise."""
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        found = await openai_client.embeddings.create(
            model="fake-encoder", input=["four", "x"], **options
        )
        assert len(found.data) == 2
        assert found.usage.total_tokens == 6
        if options.get("encoding_format") != "base64":
            assert found.data[0].embedding == [4.0, 0.5]


async def test_many_texts_are_embedded_in_parts(app):
    """As many as official clients send at once, in their order; usage counts all."""
    texts = ["a" * (1 + number % 7) for number in range(600)]
    answer = await app.http.post(PATH, json={"input": texts})
    found = documents.EmbeddingsDocument(**answer.json())
    assert [item.embedding[0] for item in found.data] == [float(len(text)) for text in texts]
    assert found.usage.prompt_tokens == 3 * 600
    assert app.feature.calls == 3


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        ({"input": ""}, "input", "not empty"),
        ({"input": []}, "input", "1 to 2048"),
        ({"input": ["a"] * 2049}, "input", "1 to 2048"),
        ({"input": [1, 2, 3]}, "input", "token ids are not taken"),
        ({"input": [[1, 2]]}, "input", "token ids are not taken"),
        ({"input": ["a", None]}, "input", "texts"),
        ({}, "input", "is required"),
        ({"input": "a", "dimensions": 64}, "dimensions", "is not supported"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "float"),
        ({"input": "a", "mood": 1}, "mood", "not a known field"),
    ],
)
async def test_bad_input_is_named(app, body, param, part):
    """400 with the field; the encoder is not asked."""
    answer = await app.http.post(PATH, json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == param
    assert part in error["message"]
    assert app.feature.calls == 0


async def test_another_model_is_not_found(app):
    """404 as for any model."""
    answer = await app.http.post(PATH, json={"input": "a", "model": "ada"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_a_busy_or_absent_encoder_says_so(app):
    """429 and 503, each with Retry-After."""
    app.feature.error = ResourceExhausted("the encoder is busy", retry_after=1.0)
    busy = await app.http.post(PATH, json={"input": "a"})
    await app.neighbours.stop("feature")
    away = await app.http.post(PATH, json={"input": "a"})
    assert (busy.status_code, away.status_code) == (429, 503)
    assert "retry-after" in busy.headers
    assert "retry-after" in away.headers


async def test_tokens_of_texts_count(serve_app):
    """The tenant's bucket pays for embeddings too."""
    served = await serve_app(tokens_per_minute=10)
    answers = [await served.http.post(PATH, json={"input": "a" * 32}) for _ in range(3)]
    assert answers[0].status_code == 200
    assert answers[0].headers["x-ratelimit-remaining-tokens"] == "2"
    assert answers[-1].status_code == 429
