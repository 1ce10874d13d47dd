"""OpenVINO GenAI: its continuous-batching pipeline, stepped by hand."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.engine.contender import (
    ARRIVALS,
    STREAM_CONTEXT,
    during_a_step,
    random_prompt,
    serve,
)

CACHE_GIB = 2
OPEN_END = 1024


class Stream:
    """One request and the times at which its tokens came."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.times: list[float] = []

    def poll(self) -> int:
        """Take what came since the last time; return how many tokens."""
        taken = 0
        while self._handle.can_read():
            taken += sum(len(each.generated_ids) for each in self._handle.read().values())
        self.times += [time.perf_counter()] * taken
        return taken

    def close(self) -> None:
        """Give up the request."""
        self._handle.stop()


class OpenVino:
    """The pipeline as a contender; a new prompt finds nothing in a cache."""

    def __init__(self, model: str, threads: int) -> None:
        scheduling = openvino_genai.SchedulerConfig()
        scheduling.cache_size = CACHE_GIB
        scheduling.max_num_batched_tokens = 2048
        scheduling.max_num_seqs = 34
        scheduling.dynamic_split_fuse = True
        scheduling.enable_prefix_caching = False
        properties = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            model, scheduling, "CPU", properties
        )
        self._threads = threads
        self._draw = random.Random(1)
        self._numbers = itertools.count()

    def describe(self) -> dict[str, str]:
        """Return versions and settings."""
        version = openvino_genai.__version__
        return {"engine": f"openvino-genai {version}", "threads": str(self._threads)}

    def prefill(self, tokens: int) -> float:
        """Return the rate of a new prompt, up to its first token."""
        return 1000 * tokens / self._alone(tokens)

    def decode(self, context: int, steps: int, streams: int = 1) -> float:
        """Return the rate over all streams, their prompts computed anew each time."""
        running = [self._open(context, OPEN_END) for _ in range(streams)]
        while not all(stream.times for stream in running):
            self._step(running)
        began = time.perf_counter()
        tokens = sum(self._step(running) for _ in range(steps))
        seconds = time.perf_counter() - began
        self._close(running)
        return tokens / seconds

    def first_token(self, prompt: int, streams: int) -> list[float]:
        """Return what each new prompt took to its first token, milliseconds."""
        if not streams:
            return [self._alone(prompt) for _ in range(ARRIVALS)]
        running = [self._open(STREAM_CONTEXT, OPEN_END) for _ in range(streams)]
        while not all(stream.times for stream in running):
            self._step(running)
        taken = [self._arrival(running, prompt) for _ in range(ARRIVALS)]
        self._close(running)
        return taken

    def _alone(self, tokens: int) -> float:
        began = time.perf_counter()
        stream = self._open(tokens, 1)
        while not stream.times:
            self._step([stream])
        return 1000 * (stream.times[0] - began)

    def _arrival(self, running: list[Stream], prompt: int) -> float:
        arrived = during_a_step(self._draw, lambda: self._step(running))
        stream = self._open(prompt, 1)
        while not stream.times:
            self._step([*running, stream])
        return 1000 * (stream.times[0] - arrived)

    def _open(self, prompt: int, tokens: int) -> Stream:
        wanted = openvino_genai.GenerationConfig()
        wanted.max_new_tokens = wanted.min_new_tokens = tokens
        wanted.ignore_eos = True
        wanted.do_sample = False
        ids = np.array([random_prompt(self._draw, prompt)], dtype=np.int64)
        number = next(self._numbers)
        return Stream(self._pipeline.add_request(number, openvino.Tensor(ids), wanted))

    def _step(self, streams: list[Stream]) -> int:
        self._pipeline.step()
        return sum(stream.poll() for stream in streams)

    def _close(self, streams: list[Stream]) -> None:
        for stream in streams:
            stream.close()
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()


if __name__ == "__main__":
    serve(lambda options: OpenVino(options["model"], options["threads"]))
