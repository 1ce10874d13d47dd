"""What reading a growing text by segments costs and loses against reading it as a whole.

`worth`: on held-out texts of two segments or more, the cosine of both embeddings and how
often the task is named rightly from each. `cost`: a text that grows by four words, as a
recogniser sends it; milliseconds of each partial, both ways, interleaved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.features import corpus
from benchmarks.features.requests import HELD_OUT, LONG, passages
from benchmarks.spread import interleaved, summary
from services.feature import growing, lexical
from services.feature.encoder import Encoder
from services.feature.encoding import Encoding, cosine
from services.feature.growing import Growing, pooled
from services.feature.house import classifier

ROUNDS, STEP, LENGTHS = 5, 4, (16, 48, 96, 192)
TEXTS = 200


def measured(encoder: Encoder) -> dict[str, Any]:
    """Return what segments are worth and what they cost."""
    return {"worth": worth(encoder), "milliseconds": costs(encoder)}


def worth(encoder: Encoder) -> dict[str, dict[str, float]]:
    """Return cosine and accuracy by kind of text."""
    prompts = corpus.held_out() + corpus.later()
    heard = corpus.as_heard(prompts)
    long = [text for text, _ in zip(passages(HELD_OUT), range(LONG[HELD_OUT]), strict=False)]
    kinds = {
        "prompts": [(each.text, each.task) for each in prompts],
        "two prompts as heard": [
            (f"{heard[place - 1].text} {each.text}", each.task) for place, each in enumerate(heard)
        ],
        "long passages": long,
    }
    named = classifier(encoder)
    return {name: _compared(encoder, named.guess, texts) for name, texts in kinds.items()}


def _compared(
    encoder: Encoder, guess: Callable[..., Any], texts: Sequence[tuple[str, str]]
) -> dict[str, float]:
    cosines, right = [], {"whole": 0, "segments": 0}
    several = [(text, task) for text, task in texts if len(_segments(text)) > 1][:TEXTS]
    for text, task in several:
        whole, parts = encoder.encode(text), by_segments(encoder, text)
        cosines.append(cosine(whole.embedding, parts.embedding))
        right["whole"] += guess(text, whole.embedding).task == task
        right["segments"] += guess(text, parts.embedding).task == task
    return {
        "texts": len(several),
        "median_cosine": float(np.median(cosines)),
        "tenth_cosine": float(np.quantile(cosines, 0.1)),
        **{f"accuracy_{name}": each / len(several) for name, each in right.items()},
    }


def by_segments(encoder: Encoder, text: str) -> Encoding:
    """Return the pooled encoding of `text`, every segment encoded."""
    segments = _segments(text)
    return pooled(segments, [encoder.encode(each) for each in segments])


def _segments(text: str) -> list[str]:
    now = Growing()
    now.grow(text)
    return now.segments


def costs(encoder: Encoder) -> dict[str, dict[str, Any]]:
    """Return milliseconds of a partial near each of LENGTHS words, both ways."""
    words = " ".join(each.text for each in corpus.held_out()).split()[: max(LENGTHS)]
    partials = [" ".join(words[:count]) for count in range(STEP, len(words) + 1, STEP)]
    taken: dict[tuple[str, int], list[float]] = {}
    for name in interleaved(["whole", "segments"], ROUNDS + 1):
        times = _whole(encoder, partials) if name == "whole" else _grown(encoder, partials)
        for place, milliseconds in enumerate(times):
            taken.setdefault((name, (place + 1) * STEP), []).append(milliseconds)
    return {
        f"{count} words": {
            name: vars(summary(taken[name, count][1:])) for name in ("whole", "segments")
        }
        for count in LENGTHS
    } | {
        "all partials": {
            name: sum(summary(each[1:]).median for (kind, _), each in taken.items() if kind == name)
            for name in ("whole", "segments")
        }
    }


def _whole(encoder: Encoder, partials: Sequence[str]) -> list[float]:
    return [
        _timed(lambda text=text: (lexical.read(text), encoder.encode(text))) for text in partials
    ]


def _grown(encoder: Encoder, partials: Sequence[str]) -> list[float]:
    """Read as `Reader` does: what was encoded before is kept."""
    now, kept = Growing(), dict[str, Encoding]()

    def read(text: str) -> None:
        now.grow(text)
        now.features()
        segments = now.segments
        for each in segments:
            if each not in kept:
                kept[each] = encoder.encode(each)
        growing.pooled(segments, [kept[each] for each in segments])

    return [_timed(partial(read, text)) for text in partials]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3
