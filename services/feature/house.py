"""Builds the room from its settings, by hand and in one place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.feature import head
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
from services.feature.task import TaskClassifier
from services.feature.worker import EncoderWorker
from thermesh.clock import SystemClock
from thermesh.models import locate


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
    """Load the encoder and put the room together; raise NotFound where there is no encoder."""
    clock, tally = SystemClock(), Tally()
    encoder = load_encoder(config)
    name, dimensions = (encoder.name, encoder.dimensions) if encoder else (NO_ENCODER, 0)
    store = RedisStore(config.redis_url)
    shared = GuardedStore(store, Breaker(clock), tally)
    cache = EncodingCache(
        local=MemoryStore(config.cache_entries, clock),
        shared=shared,
        tally=tally,
        encoder=name,
        dimensions=dimensions,
        ttl_seconds=config.cache_ttl_seconds,
    )
    local_sessions = MemoryStore(config.cache_entries, clock)
    worker = None
    if encoder:
        worker = EncoderWorker(encoder.encode, config.waiting_limit, config.encoder_share)
    reader = Reader(
        worker=worker,
        classifier=classifier(encoder),
        cache=cache,
        sessions=Sessions(local_sessions, shared, dimensions, config.session_ttl_seconds),
        tally=tally,
        clock=clock,
    )
    embedder = Embedder(name, worker, cache, encoder.count) if encoder and worker else None
    return House(reader, embedder, Metrics(tally), store)


def classifier(encoder: Encoder | None) -> TaskClassifier:
    """Return the best classifier of tasks there is for `encoder`."""
    if encoder is None:
        return TaskClassifier()
    trained = head.load(encoder.name, encoder.dimensions)
    return TaskClassifier(lambda text: encoder.encode(text).embedding, trained)


def load_encoder(config: Config) -> Encoder | None:
    """Return the encoder of the settings, None where they want none."""
    torch.set_num_threads(config.threads)
    if config.encoder == NO_ENCODER:
        return None
    return Encoder(locate(config.encoder), product_type())
