"""Our engine as a contender: scheduler, sampler and network, stepped by hand.

What the service's engine thread runs, without gRPC around it. The peers are
measured likewise or with less: llama.cpp by its bare decode call.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import random
import time
from collections.abc import Sequence as Many
from typing import Any

from benchmarks.engine.contender import ARRIVALS, STREAM_CONTEXT, during_a_step, random_prompt
from services.inference.config import Config
from services.inference.cores import physical_cores
from services.inference.decoding.decoder import Decoder
from services.inference.events import Token
from services.inference.kernels import PAGE_SIZE
from services.inference.limits import limits_of
from services.inference.models import load
from services.inference.request import Context, Request
from services.inference.sampling.settings import Fixed, Sampling
from services.inference.sequences.sequence import Sequence
from thermesh.clock import SystemClock
from thermesh.settings import from_env

PAGES = 3072
"""Of the cache: 16 streams and a prompt of 8K fit, with 2,000 tokens that each stream generates
meanwhile; else the prompt would give way and begin anew. Memory is taken as used."""
OPEN_END = 4096


class Stream:
    """One request, and the times at which its tokens came, perf_counter."""

    taken = 0
    is_cancelled = False

    def __init__(self) -> None:
        self.times: list[float] = []


class Thermesh:
    """The decoder of the service, at its default settings and the environment's, but without
    speculation (row `speculation` measures it).
    """

    def __init__(self, model: str) -> None:
        config = from_env(Config)
        self.path = pathlib.Path(model)
        self.model = load(self.path, self.path.stem)
        # Greedy text on random prompts repeats itself: guesses would come true
        # too often and flatter us. They are measured by themselves.
        limits = dataclasses.replace(limits_of(config), speculation=False)
        pages, clock = max(config.kv_pages, PAGES), SystemClock()
        self.decoder = Decoder(self.model.network, self.model.tokenizer, limits, pages, clock)
        self._threads = config.threads or physical_cores()
        self.decoder.use_threads(self._threads)
        self.draw = random.Random(1)
        self._streams: dict[Stream, None] = {}
        self._prompts: dict[tuple[int, int], list[int]] = {}

    def describe(self) -> dict[str, str]:
        """Return kernels and threads."""
        return {
            "engine": "thermesh",
            "kernels": self.model.network.kernels_name,
            "weights": self.model.weight_format,
            "threads": str(self._threads),
        }

    def footprint(self) -> dict[str, float]:
        """Return what keys and values in pages that somebody has or had take, MiB."""
        load, cache = self.decoder.load(), self.model.network.new_cache(1)
        pages = load.kv_pages_used + load.kv_pages_cached
        return {"kv_mib": pages * PAGE_SIZE * cache.bytes_per_token / 2**20}

    def prefill(self, tokens: int) -> float:
        """Return the rate of a new prompt, up to its first token."""
        began = time.perf_counter()
        stream = self.open(random_prompt(self.draw, tokens), max_tokens=1)
        self.until_begun([stream])
        self.close()
        return tokens / (stream.times[0] - began)

    def decode(self, context: int, steps: int, streams: int = 1) -> float:
        """Return the rate over all streams; the prefix cache has their prompts."""
        self.begin(context, streams)
        began = time.perf_counter()
        tokens = sum(self.step() for _ in range(steps))
        seconds = time.perf_counter() - began
        self.close()
        return tokens / seconds

    def first_token(self, prompt: int, streams: int) -> list[float]:
        """Return what each new prompt took to its first token, milliseconds."""
        self.begin(STREAM_CONTEXT, streams)
        prompts = [random_prompt(self.draw, prompt) for _ in range(ARRIVALS)]
        taken = [self._arrival(one, beside=streams) for one in prompts]
        self.close()
        return taken

    def first_token_again(self, prompt: int) -> list[float]:
        """Return what prompts took that were answered before, milliseconds."""
        prompts = [random_prompt(self.draw, prompt) for _ in range(ARRIVALS)]
        for one in prompts:
            self._arrival(one)
        taken = [self._arrival(one) for one in prompts]
        self.close()
        return taken

    def run(self, function: str, **arguments: Any) -> Any:
        """Return what `module:function` of this folder says of this contender."""
        module, _, name = function.partition(":")
        found = importlib.import_module(f"benchmarks.engine.ours.{module}")
        return getattr(found, name)(self, **arguments)

    def begin(self, context: int, streams: int) -> list[Stream]:
        """Open streams behind `context` tokens each and step until all decode.

        Each prompt is read before, so that they begin together: streams that waited for
        others' prompts would decode meanwhile, and be behind longer contexts than was said.
        """
        prompts = [self._prompt(context, number) for number in range(streams)]
        for prompt in prompts:
            self.until_begun([self.open(prompt, max_tokens=1)])
        opened = [self.open(prompt, OPEN_END) for prompt in prompts]
        self.until_begun(opened)
        return opened

    def open(self, prompt: Many[int], max_tokens: int) -> Stream:
        """Submit a greedy request that no end-of-turn token ends."""
        request = Request(
            context=Context(request_id=f"stream-{len(self._streams)}"),
            prompt_ids=tuple(prompt),
            sampling=Sampling(Fixed(0)),
            seed=0,
            max_tokens=max_tokens,
            ignore_end_of_sequence=True,
        )
        stream = Stream()
        size = self.model.config.vocabulary_size
        limit = self.model.config.context_length - len(prompt)
        self.decoder.submit(Sequence(request, stream, size, limit, time.monotonic()))
        self._streams[stream] = None
        return stream

    def step(self) -> int:
        """Take a step; return how many tokens came of it."""
        result = self.decoder.step()
        now = time.perf_counter()
        tokens = [reader for reader, event in result.events if isinstance(event, Token)]
        for reader in tokens:
            assert isinstance(reader, Stream)
            reader.times.append(now)
            reader.taken += 1
        return len(tokens)

    def until_begun(self, streams: list[Stream]) -> None:
        """Step until each has its first token."""
        while not all(stream.times for stream in streams):
            self.step()

    def close(self) -> None:
        """End every request."""
        for stream in self._streams:
            self.decoder.cancel(stream)
        self._streams.clear()
        self.decoder.take_result()

    def _arrival(self, prompt: Many[int], beside: int = 0) -> float:
        arrived = during_a_step(self.draw, self.step) if beside else time.perf_counter()
        stream = self.open(prompt, max_tokens=1)
        self.until_begun([stream])
        return 1000 * (stream.times[0] - arrived)

    def _prompt(self, context: int, number: int) -> list[int]:
        key = (context, number)
        if key not in self._prompts:
            self._prompts[key] = random_prompt(self.draw, context)
        return self._prompts[key]
