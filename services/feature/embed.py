"""Texts to vectors for whoever asks, on the encoder that reads requests too.

Requests come first: a batch has one text at a time in the encoder's queue, and at
most MOST_BATCHES are worked on, so that reading a request waits for a few texts
at worst and never finds the queue full of a batch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from services.feature.cache import EncodingCache
from services.feature.encoding import ENCODER_CHARACTERS, Embedding, Encoding, settle
from services.feature.worker import EncoderWorker
from thermesh.errors import NotFound, ResourceExhausted

MOST_TEXTS = 256
MOST_BATCHES = 4


@dataclass(frozen=True)
class Batch:
    """Texts of one tenant; `model` empty: the encoder that is there."""

    tenant: str
    model: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Embedded:
    """Vectors in the order of the texts, and how many tokens were read."""

    model: str
    embeddings: list[Embedding]
    token_count: int


class Whole(Protocol):
    """An encoder with all of its layers; requests are read with fewer."""

    name: str

    def encode(self, text: str) -> Encoding:
        """Return the encoding of `text`."""
        ...

    def count(self, text: str) -> int:
        """Return how many tokens of `text` are read."""
        ...


class Embedder:
    """Embeds batches with `encoder`, on the thread of `worker`."""

    def __init__(self, encoder: Whole, worker: EncoderWorker, cache: EncodingCache) -> None:
        self._encoder = encoder
        self._model = encoder.name
        self._worker = worker
        self._cache = cache
        self._batches = 0

    async def embed(self, batch: Batch) -> Embedded:
        """Return the vectors; raise NotFound for another model, ResourceExhausted when busy."""
        if batch.model not in {"", self._model}:
            raise NotFound(f"the encoder is {self._model}", field="model")
        if self._batches >= MOST_BATCHES:
            raise _busy()
        self._batches += 1
        try:
            texts = [text[:ENCODER_CHARACTERS] for text in batch.texts]
            embeddings = [await self._embedding(batch.tenant, text) for text in texts]
            tokens = await asyncio.to_thread(lambda: sum(map(self._encoder.count, texts)))
        finally:
            self._batches -= 1
        return Embedded(self._model, embeddings, tokens)

    async def _embedding(self, tenant: str, text: str) -> Embedding:
        known = await self._cache.get(tenant, text)
        if known:
            return known.embedding
        job = self._worker.submit(text, self._encoder.encode)
        if job is None:
            raise _busy()
        encoding = settle(await asyncio.wrap_future(job))
        await self._cache.put(tenant, text, encoding)
        return encoding.embedding


def _busy() -> ResourceExhausted:
    return ResourceExhausted("the encoder is busy", reason="ENCODER_BUSY", retry_after=1.0)
