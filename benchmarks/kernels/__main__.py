"""Measure the kernels alone, side by side: prompts, single streams, batches.

    python -m benchmarks.kernels                     # the packaged model
    python -m benchmarks.kernels --rounds 9 --json benchmarks/results/kernels.json

Contenders are the implementations of the kernels on one model in one process.
Every figure of every contender is taken once a round, in a new order each
round, so that all share the machine's moods; medians are printed with their
quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.spread import interleaved, summary
from services.inference.kernels import PAGE_SIZE, Span, StepBatch
from services.inference.kernels.cpu import memory
from services.inference.models import load
from thermesh import models

CONTENDERS: dict[str, dict[str, str]] = {
    "cpu full": {"THERMESH_KERNELS": "cpu", "THERMESH_KERNELS_PRECISION": "full"},
    "cpu mixed": {"THERMESH_KERNELS": "cpu", "THERMESH_KERNELS_PRECISION": "mixed"},
    "reference": {"THERMESH_KERNELS": "reference"},
}
STREAM_PAGES = 8
PROMPT_CHUNK = 256
MOST_STREAMS = 32
READ_BYTES = 1 << 29
BURNER = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""Uses all of one core until it is ended or whoever measures has gone."""


class Contender:
    """One network with a cache, fed with random tokens."""

    def __init__(self, network: Any, vocabulary_size: int, longest: int) -> None:
        self._network = network
        self._vocabulary_size = vocabulary_size
        self._random = np.random.default_rng(1)
        self._pages = max(-(-longest // PAGE_SIZE) + 8, MOST_STREAMS * STREAM_PAGES)
        self._cache = network.new_cache(self._pages)

    def prompt(self, tokens: int) -> float:
        """Return tokens per second of a prompt, up to its logits."""
        started = time.perf_counter()
        for first in range(0, tokens, PROMPT_CHUNK):
            part = (first, min(PROMPT_CHUNK, tokens - first), range(self._pages))
            self._step([part], prompt_end=tokens - 1)
        return tokens / (time.perf_counter() - started)

    def decode(self, context: int, steps: int) -> float:
        """Return tokens per second of one stream behind `context` tokens."""
        self.prompt(context)
        started = time.perf_counter()
        for step in range(steps):
            self._step([(context + step, 1, range(self._pages))])
        return steps / (time.perf_counter() - started)

    def batch(self, streams: int, steps: int) -> float:
        """Return tokens per second over all of several short streams."""
        tables = [range(i * STREAM_PAGES, (i + 1) * STREAM_PAGES) for i in range(streams)]
        for table in tables:
            self._step([(0, 64, table)], prompt_end=63)
        started = time.perf_counter()
        for step in range(steps):
            self._step([(64 + step, 1, table) for table in tables])
        return streams * steps / (time.perf_counter() - started)

    def beside_burner(self, steps: int) -> float:
        """Return tokens per second of one short stream while another process burns a core."""
        with burner():
            return self.decode(64, steps)

    def _step(self, parts: list[tuple[int, int, range]], prompt_end: int = 0) -> None:
        spans, positions, start = [], [], 0
        for first, count, table in parts:
            spans.append(Span(start, count, first + count, tuple(table), prompt_end=prompt_end))
            positions.append(np.arange(first, first + count))
            start += count
        token_ids = self._random.integers(0, self._vocabulary_size, start)
        self._network.step(
            StepBatch(token_ids, np.concatenate(positions), tuple(spans)), self._cache
        )


@contextlib.contextmanager
def burner() -> Iterator[None]:
    """Keep one core busy meanwhile."""
    with subprocess.Popen([sys.executable, "-c", BURNER]) as process:
        try:
            yield
        finally:
            process.kill()


def read_rate() -> float:
    """Return the bytes per second that all threads together read from memory.

    What no engine can pass: a decoding step reads every weight once.
    """
    block = torch.from_numpy(memory.anonymous(READ_BYTES)).view(torch.float32).fill_(1.0)
    started = time.perf_counter()
    block.sum()
    return READ_BYTES / (time.perf_counter() - started)


def figures(steps: int) -> dict[str, Callable[[Contender], float]]:
    """Return what is measured of each contender, in tokens per second."""
    return {
        "prompt of 128": lambda contender: contender.prompt(128),
        "prompt of 512": lambda contender: contender.prompt(512),
        "prompt of 2048": lambda contender: contender.prompt(2048),
        "decode at 64": lambda contender: contender.decode(64, steps),
        "decode at 1024": lambda contender: contender.decode(1024, steps),
        "8 streams": lambda contender: contender.batch(8, max(steps // 4, 4)),
        "16 streams": lambda contender: contender.batch(16, max(steps // 8, 4)),
        "32 streams": lambda contender: contender.batch(MOST_STREAMS, 4),
        # Long enough for several slices of the scheduler.
        "decode at 64 beside a burner": lambda contender: contender.beside_burner(8 * steps),
    }


def contenders(
    path: pathlib.Path, names: list[str], threads: int
) -> Iterator[tuple[str, Contender]]:
    """Load the model once for each contender."""
    for name in names:
        os.environ.update(CONTENDERS[name])
        model = load(path, path.stem)
        print(f"{name}: {model.network.kernels_name}", file=sys.stderr)
        model.network.use_threads(threads)
        yield name, Contender(model.network, model.config.vocabulary_size, 2048)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take all samples; return them with their medians and the machine."""
    path = models.locate(arguments.model)
    runners = dict(contenders(path, arguments.contenders, arguments.threads))
    samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, runner in runners.items():
        for measured in figures(4).values():
            measured(runner)
        print(f"{name}: warm", file=sys.stderr)
    for figure, measured in figures(arguments.steps).items():
        for name in interleaved(list(runners), arguments.rounds):
            samples[figure][name].append(measured(runners[name]))
        print(_row(figure, samples[figure]), file=sys.stderr)
    return {
        "machine": machine.describe(),
        "model": path.name,
        "threads": arguments.threads,
        "read_bytes_per_second": dataclasses.asdict(
            summary([read_rate() for _ in range(arguments.rounds)])
        ),
        "tokens_per_second": {
            figure: {
                name: {**dataclasses.asdict(summary(values)), "samples": values}
                for name, values in of_figure.items()
            }
            for figure, of_figure in samples.items()
        },
    }


def _row(figure: str, of_figure: dict[str, list[float]]) -> str:
    cells = []
    for name, values in of_figure.items():
        found = summary(values)
        cells.append(f"{name} {found.median:7.1f} ({found.low:.0f} to {found.high:.0f})")
    return f"{figure:>28}  " + "   ".join(cells)


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="packaged name or file")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=5, help="samples of each figure")
    parser.add_argument("--steps", type=int, default=32, help="steps of a decoding sample")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a step")
    parser.add_argument("--json", type=pathlib.Path, help="file to write everything to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
