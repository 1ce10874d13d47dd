"""What a vector costs: lexical, at a glance, with the encoder in float32 and its fastest type.

In this process, one thread, no cache: `Reader`'s parts in its order, interleaved with each
other, medians of rounds. What gRPC, Redis and a busy neighbour add is in the mesh's
benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.spread import interleaved, summary
from services.feature import lexical
from services.feature.encoder import Encoder, product_type
from services.feature.encoding import cosine
from services.feature.extract import Reading, assemble
from services.feature.house import classifier, for_reading
from services.feature.task import TaskClassifier
from thermesh.models import locate

ROUNDS, WARM_UP = 40, 5
TEXT = "My order never came and nobody answers. Where is it, and when do I get my money back?"


def measured(encoder: str) -> dict[str, Any]:
    """Return milliseconds of one vector of TEXT, by path, and how true bfloat16 is."""
    exact = for_reading(Encoder(locate(encoder)))
    fast = for_reading(Encoder(locate(encoder), product_type()))
    paths: dict[str, Callable[[], object]] = {
        "lexical": lambda: vector(TaskClassifier(), None),
        "at a glance": _glancing(fast),
        "encoder, float32": _path(exact),
        "encoder, as served": _path(fast),
    }
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for name in interleaved(list(paths), WARM_UP + ROUNDS):
        began = time.perf_counter()
        paths[name]()
        taken[name].append((time.perf_counter() - began) * 1e3)
    return {
        "text": TEXT,
        "served_type": str(product_type()).removeprefix("torch."),
        "cosine": cosine(exact.encode(TEXT).embedding, fast.encode(TEXT).embedding),
        "milliseconds": {name: vars(summary(each[WARM_UP:])) for name, each in taken.items()},
    }


def vector(named: TaskClassifier, encoder: Encoder | None) -> object:
    """Do what an answer takes, but for queue, cache and wire."""
    encoding = encoder.encode(TEXT) if encoder else None
    return assemble(
        Reading(TEXT),
        lexical=lexical.read(TEXT),
        guess=named.guess(TEXT, encoding.embedding if encoding else None),
        encoding=encoding,
        session=None,
        now_unix_ms=0,
    )


def _glancing(encoder: Encoder) -> Callable[[], object]:
    named = classifier(encoder)
    return lambda: vector(named, None)


def _path(encoder: Encoder) -> Callable[[], object]:
    named = classifier(encoder)
    return lambda: vector(named, encoder)
