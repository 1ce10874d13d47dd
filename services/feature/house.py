"""Builds the room from its settings, by hand and in one place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.feature import head, lexical
from services.feature.breaker import Breaker, GuardedStore
from services.feature.cache import EncodingCache, MemoryStore
from services.feature.config import NO_ENCODER, Config
from services.feature.embed import Embedder
from services.feature.encoder import Encoder, product_type
from services.feature.metrics import Metrics
from services.feature.reader import Reader
from services.feature.session import Sessions
from services.feature.store import RedisStore
from services.feature.tally import Tally
from services.feature.task import Glancing, TaskClassifier
from services.feature.worker import EncoderWorker
from thermesh.clock import SystemClock
from thermesh.models import locate

WARM_WORDS = range(4, 64, 8)
"""Lengths of the texts that are read before anybody asks; longer ones are seldom."""


@dataclass(frozen=True)
class House:
    """The room, ready to answer."""

    reader: Reader
    embedder: Embedder | None
    metrics: Metrics
    store: RedisStore

    async def close(self) -> None:
        """Finish what is under way and let go of thread and connections."""
        await self.reader.close()
        await self.store.close()


def build(config: Config) -> House:
    """Load the encoder and put the room together, warm; raise NotFound where there is no
    encoder.
    """
    clock, tally = SystemClock(), Tally()
    encoder = load_encoder(config)
    dimensions = encoder.dimensions if encoder else 0
    store = RedisStore(config.redis_url)
    shared = GuardedStore(store, Breaker(clock), tally)
    local = MemoryStore(config.cache_entries, clock)

    def cache(name: str) -> EncodingCache:
        return EncodingCache(
            local=local,
            shared=shared,
            tally=tally,
            encoder=name,
            dimensions=dimensions,
            ttl_seconds=config.cache_ttl_seconds,
        )

    local_sessions = MemoryStore(config.cache_entries, clock)
    worker, embedder = None, None
    reads = for_reading(encoder) if encoder else None
    names = classifier(reads)
    warm_up(reads, names)
    may_be_sure = reads is not None and glancing(reads) is not None
    if encoder and reads:
        worker = EncoderWorker(reads.encode, config.waiting_limit, config.encoder_share)
        embedder = Embedder(encoder, worker, cache(encoder.name))
    reader = Reader(
        worker=worker,
        classifier=names,
        cache=cache(f"{reads.name}:{reads.depth}" if reads else NO_ENCODER),
        sessions=Sessions(local_sessions, shared, dimensions, config.session_ttl_seconds),
        tally=tally,
        clock=clock,
        sure=config.sure if may_be_sure else 1.0,
    )
    return House(reader, embedder, Metrics(tally), store)


def warm_up(encoder: Encoder | None, names: TaskClassifier) -> None:
    """Read some texts, so that the first one asked costs what the others do.

    The first encoding of a process takes ten times as long as the next: longer than a request
    waits for it.
    """
    for words in WARM_WORDS:
        text = " ".join(["word"] * words)
        lexical.read(text)
        names.guess(text, encoder.encode(text).embedding if encoder else None)
        names.guess(text, None)


def for_reading(encoder: Encoder) -> Encoder:
    """Return as many layers of `encoder` as requests are read with: those that the shipped
    head was trained on, all where it was made for another encoder.
    """
    trained = head.load(encoder.name, encoder.dimensions)
    return encoder.truncated(trained.depth) if trained else encoder


def classifier(encoder: Encoder | None) -> TaskClassifier:
    """Return the best classifier of tasks there is for `encoder`, which is `for_reading`."""
    if encoder is None:
        return TaskClassifier()
    trained = head.load(encoder.name, encoder.dimensions)
    return TaskClassifier(lambda text: encoder.encode(text).embedding, trained, glancing(encoder))


def glancing(encoder: Encoder) -> Glancing | None:
    """Return what names tasks by token vectors; None where nothing was trained on them."""
    trained = head.load(encoder.name, 2 * encoder.dimensions, head.GLANCE_FILE)
    return Glancing(encoder.glance, trained) if trained else None


def load_encoder(config: Config) -> Encoder | None:
    """Return the encoder of the settings, None where they want none."""
    torch.set_num_threads(config.threads)
    if config.encoder == NO_ENCODER:
        return None
    return Encoder(locate(config.encoder), product_type())
