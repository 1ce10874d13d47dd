"""What llama.cpp and its fork have in common: batches through llama_decode.

The lowest layer that Python can call, so that nothing of a wrapper is measured.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.engine.contender import ARRIVALS, STREAM_CONTEXT, during_a_step, random_prompt

BATCH_TOKENS = 2048
STREAMS = 33
"""32 that decode, and one that arrives."""
STREAM_TOKENS = 512


class Library(Protocol):
    """What differs between the two."""

    api: Any
    """The module of C functions."""

    def context(self, tokens: int, sequences: int) -> Any:
        """Return a context with a cache of its own for each sequence."""

    def forget(self, context: Any, sequence: int, first: int) -> None:
        """Drop the tokens of a sequence from position `first` on."""

    def clear(self, context: Any) -> None:
        """Drop all tokens."""


@dataclass(frozen=True)
class Item:
    """One token to compute."""

    token: int
    position: int
    sequence: int
    wants_logits: bool = True


class Cache:
    """A context and the tokens in it."""

    def __init__(self, library: Library, vocabulary_size: int, tokens: int, sequences: int) -> None:
        self._library = library
        self._vocabulary_size = vocabulary_size
        self._context = library.context(tokens, sequences)
        self._batch = library.api.llama_batch_init(BATCH_TOKENS, 0, 1)

    def run(self, items: Iterable[Item]) -> list[int]:
        """Compute; return the likeliest token after each that wants logits."""
        batch, api, wanting = self._batch, self._library.api, []
        for row, item in enumerate(items):
            batch.token[row] = item.token
            batch.pos[row] = item.position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = item.sequence
            batch.logits[row] = item.wants_logits
            batch.n_tokens = row + 1
            if item.wants_logits:
                wanting.append(row)
        status = api.llama_decode(self._context, batch)
        if status:
            raise RuntimeError(f"llama_decode failed with status {status}")
        return [self._likeliest(row) for row in wanting]

    def prefill(self, prompt: list[int], sequence: int = 0) -> int:
        """Compute a prompt from position 0 on; return the token after it."""
        token, last = -1, len(prompt) - 1
        for first in range(0, len(prompt), BATCH_TOKENS):
            chunk = enumerate(prompt[first : first + BATCH_TOKENS], first)
            drawn = self.run(Item(each, place, sequence, place == last) for place, each in chunk)
            token = drawn[0] if drawn else token
        return token

    def forget(self, sequence: int, first: int) -> None:
        """Drop the tokens of a sequence from position `first` on."""
        self._library.forget(self._context, sequence, first)

    def clear(self) -> None:
        """Drop all tokens."""
        self._library.clear(self._context)

    def _likeliest(self, row: int) -> int:
        logits = self._library.api.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocabulary_size,)).argmax())


class Streams:
    """Streams that decode side by side, a token each in a step."""

    def __init__(self, cache: Cache, first_tokens: list[int], context: int) -> None:
        self._cache = cache
        self._tokens = first_tokens
        self._position = context

    def step(self, *joining: Item) -> list[int]:
        """Take a step of all; return the tokens that came of `joining`."""
        number = len(self._tokens)
        own = [Item(token, self._position, stream) for stream, token in enumerate(self._tokens)]
        drawn = self._cache.run([*own, *joining])
        self._tokens = drawn[:number]
        self._position += 1
        return drawn[number:]


class Ggml:
    """A model of the family as a contender."""

    def __init__(self, library: Library, vocabulary_size: int, described: dict[str, str]) -> None:
        self._described = described
        self._draw = random.Random(1)
        self._single = Cache(library, vocabulary_size, 4608, 1)
        self._several_of = (library, vocabulary_size, STREAMS * STREAM_TOKENS, STREAMS)
        self._several: Cache | None = None
        self._filled: dict[tuple[int, int], list[int]] = {}

    def describe(self) -> dict[str, str]:
        """Return versions and settings."""
        return self._described

    def prefill(self, tokens: int) -> float:
        """Return the rate of a new prompt, up to its first token."""
        self._empty(self._single)
        prompt = random_prompt(self._draw, tokens)
        began = time.perf_counter()
        self._single.prefill(prompt)
        return tokens / (time.perf_counter() - began)

    def decode(self, context: int, steps: int, streams: int = 1) -> float:
        """Return the rate over all streams; their prompts stay from the time before."""
        running = self._running(context, streams)
        began = time.perf_counter()
        for _ in range(steps):
            running.step()
        return streams * steps / (time.perf_counter() - began)

    def first_token(self, prompt: int, streams: int) -> list[float]:
        """Return what each new prompt took to its first token, milliseconds."""
        if not streams:
            return [1000 * prompt / self.prefill(prompt) for _ in range(ARRIVALS)]
        running = self._running(STREAM_CONTEXT, streams)
        return [self._arrival(running, prompt, streams) for _ in range(ARRIVALS)]

    def _arrival(self, running: Streams, prompt: int, sequence: int) -> float:
        self._cache_of(sequence + 1).forget(sequence, 0)
        tokens = random_prompt(self._draw, prompt)
        arrived = during_a_step(self._draw, running.step)
        last = prompt - 1
        running.step(*(Item(each, i, sequence, i == last) for i, each in enumerate(tokens)))
        return 1000 * (time.perf_counter() - arrived)

    def _running(self, context: int, streams: int) -> Streams:
        """Return streams behind `context` tokens, computed where they are not there."""
        cache, key = self._cache_of(streams), (context, streams)
        if key not in self._filled:
            self._empty(cache)
            prompts = [random_prompt(self._draw, context) for _ in range(streams)]
            self._filled[key] = [cache.prefill(one, i) for i, one in enumerate(prompts)]
        for stream in range(streams):
            cache.forget(stream, context)
        return Streams(cache, list(self._filled[key]), context)

    def _cache_of(self, streams: int) -> Cache:
        if streams == 1:
            return self._single
        self._several = self._several or Cache(*self._several_of)
        return self._several

    def _empty(self, cache: Cache) -> None:
        cache.clear()
        is_single = cache is self._single
        self._filled = {
            key: tokens for key, tokens in self._filled.items() if (key[1] == 1) != is_single
        }
