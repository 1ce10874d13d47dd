"""Embedding batches: in order, cached, bounded, after the requests."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from services.feature.cache import EncodingCache, MemoryStore
from services.feature.embed import MOST_BATCHES, Batch, Embedder
from services.feature.encoding import Encoding
from services.feature.tally import Tally
from services.feature.worker import EncoderWorker
from thermesh.clock import SystemClock
from thermesh.errors import NotFound, ResourceExhausted
from thermesh.testing import eventually

WIDTH = 8


class Recorder:
    """An encoder that notes what it read and can be held up."""

    name = "fake"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def encode(self, text):
        """One direction a text."""
        self.go.wait(10)
        self.texts.append(text)
        vector = np.zeros(WIDTH, np.float32)
        vector[len(text) % WIDTH] = 1.0
        return Encoding(vector, 0.1, 0.2, 0.3)

    def count(self, text):
        """One token a character."""
        return len(text)


@pytest.fixture
def recorder():
    """The encoder under the worker."""
    return Recorder()


@pytest.fixture
def worker(recorder):
    """The encoder's thread with a queue of four."""
    running = EncoderWorker(recorder.encode, waiting_limit=4)
    yield running
    recorder.go.set()
    running.close()


@pytest.fixture
def embedder(recorder, worker):
    """An embedder with a cache of its own."""
    store = MemoryStore(100, SystemClock())
    cache = EncodingCache(
        local=store,
        shared=store,
        tally=Tally(),
        encoder="fake",
        dimensions=WIDTH,
        ttl_seconds=60,
    )
    return Embedder(recorder, worker, cache)


async def test_vectors_come_in_the_order_of_the_texts(embedder):
    """Also where a text comes twice; tokens are counted for each."""
    found = await embedder.embed(Batch("default", "", ("a", "bb", "a")))
    assert [int(vector.argmax()) for vector in found.embeddings] == [1, 2, 1]
    assert found.token_count == 4
    assert found.model == "fake"


async def test_a_text_is_read_once_for_a_tenant(embedder, recorder):
    """The second batch comes from the cache; another tenant's does not."""
    for tenant in ("one", "one", "two"):
        await embedder.embed(Batch(tenant, "fake", ("text",)))
    assert recorder.texts == ["text", "text"]


async def test_another_model_is_not_found(embedder):
    """The message names the encoder that is there."""
    with pytest.raises(NotFound, match="the encoder is fake"):
        await embedder.embed(Batch("default", "other", ("a",)))


async def test_more_batches_than_may_wait_are_refused_at_once(embedder, recorder):
    """Each holds one place of the queue; the next is told to come again."""
    recorder.go.clear()
    texts = [Batch("default", "", (letter * 3, letter)) for letter in "abcd"]
    waiting = [asyncio.create_task(embedder.embed(batch)) for batch in texts]
    assert len(waiting) == MOST_BATCHES
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refused:
        await embedder.embed(Batch("default", "", ("e",)))
    assert refused.value.retry_after
    recorder.go.set()
    found = await asyncio.gather(*waiting)
    assert [len(one.embeddings) for one in found] == [2] * MOST_BATCHES


async def test_a_cancelled_batch_gives_its_place_back(embedder, recorder):
    """A client that left does not count."""
    recorder.go.clear()
    for _ in range(2 * MOST_BATCHES):
        batch = asyncio.create_task(embedder.embed(Batch("default", "", ("x",))))
        await asyncio.sleep(0)
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)
    recorder.go.set()
    # The worker's thread passes over cancelled texts one after another.
    await eventually(lambda: _is_welcome(embedder), what="a place")


async def _is_welcome(embedder):
    try:
        return bool((await embedder.embed(Batch("default", "", ("y",)))).embeddings)
    except ResourceExhausted:
        return False
