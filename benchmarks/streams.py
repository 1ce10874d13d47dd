"""Measure the engine with its scheduler, as streams see it: first tokens, gaps, guesses.

    python -m benchmarks.streams                    # all rows, the packaged model
    python -m benchmarks.streams --rows copying free --rounds 7 --json streams.json

Each row runs through `Engine`, thread and sampler included, without gRPC. Contenders of
a row take turns in a new order each round; medians with quartiles are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import pathlib
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import torch

from benchmarks import machine
from benchmarks.spread import interleaved, summary
from services.inference.cores import physical_cores
from services.inference.decoder import Decoder
from services.inference.engine import Engine
from services.inference.events import Ended, Token
from services.inference.models import load
from services.inference.request import Context, Request
from services.inference.sampling import Fixed, Sampling
from services.inference.scheduler import Limits
from services.inference.stream import Stream
from thermesh import models
from thermesh.clock import SystemClock
from thermesh.testing import eventually

KV_PAGES = 1400
LONG_PROMPT = 7900
PASSAGE = """The harbour of Ostrava Bay was built in 1887 by the engineer Milan Dvorak. It has
three basins: the northern one serves fishing boats, the middle one ferries to the islands
of Kresta and Belun, and the southern one, dredged in 1954, takes grain ships of up to
28,000 tonnes. Storms closed the harbour eleven times in the last century; the longest
closure, in February 1962, lasted nineteen days. Since 2003 a museum in the old customs
house shows charts, lamps and the logbooks of the pilots."""
COPYING = (
    f"Repeat the following text word for word, and nothing else:\n\n{PASSAGE}",
    "Copy this list exactly:\n\n" + "\n".join(f"{n}. item number {n * 37}" for n in range(1, 30)),
    f"Write this text again with no changes:\n\n{PASSAGE[:330]}",
)
FREE = (
    "Tell me a story about a lighthouse keeper who learns to paint.",
    "Explain why the sky is blue to a ten-year-old child.",
    "Describe what a good morning in a small mountain village is like.",
)


class Bench:
    """One engine on the model, and requests to it."""

    def __init__(self, model: Any, engine: Engine) -> None:
        self.model = model
        self.engine = engine
        self._number = 0

    def open(
        self, prompt_ids: tuple[int, ...], tokens: int, temperature: float, seed: int = 1
    ) -> Stream:
        """Open a stream of exactly `tokens` tokens."""
        self._number += 1
        return self.engine.open(
            Request(
                context=Context(request_id=f"r{self._number}"),
                prompt_ids=prompt_ids,
                sampling=Sampling(Fixed(temperature)),
                seed=seed,
                max_tokens=tokens,
                ignore_end_of_sequence=True,
            )
        )

    def chat(self, text: str) -> tuple[int, ...]:
        """Return the ids of a conversation of one message."""
        return tuple(self.model.tokenizer.encode_chat([("user", text)]))

    def noise(self, tokens: int) -> tuple[int, ...]:
        """Return a prompt that no other begins with, of ids that are words."""
        return tuple(random.choices(range(500, 40_000), k=tokens))


@asynccontextmanager
async def serving(model: Any, **limits: Any) -> AsyncIterator[Bench]:
    """Run an engine with these limits."""
    clock = SystemClock()
    chosen = Limits(**limits)
    decoder = Decoder(model.network, model.tokenizer, chosen, KV_PAGES, clock)
    engine = Engine(
        decoder,
        chosen,
        context_length=model.config.context_length,
        vocabulary_size=model.config.vocabulary_size,
        clock=clock,
        threads=physical_cores(),
    )
    engine.start()
    await engine.warm_up()
    try:
        yield Bench(model, engine)
    finally:
        await engine.stop()


async def arrivals(stream: Stream) -> list[tuple[float, Token]]:
    """Read a stream to its end; return when each token came."""
    came: list[tuple[float, Token]] = []
    try:
        while True:
            for event in await stream.take():
                if isinstance(event, Token):
                    came.append((time.perf_counter(), event))
                elif isinstance(event, Ended):
                    return came
    finally:
        stream.close()


async def first_token(bench: Bench, prompt: tuple[int, ...]) -> float:
    """Return milliseconds from opening a stream to its first token."""
    started = time.perf_counter()
    came = await arrivals(bench.open(prompt, 1, 0.7))
    return (came[0][0] - started) * 1e3


@asynccontextmanager
async def company(
    bench: Bench, streams: int, tokens: int
) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Let `streams` others decode; they are past their first tokens."""
    opened = [bench.open(bench.noise(64), tokens, 0.7) for _ in range(streams)]
    tasks = [asyncio.create_task(arrivals(stream)) for stream in opened]
    await eventually(lambda: all(stream.taken > 3 for stream in opened))
    try:
        yield tasks
    finally:
        for stream in opened:
            stream.cancel()
        await asyncio.gather(*tasks)


# Rows: each returns {contender: sample} for one round.

Row = Callable[[Any, int], Awaitable[dict[str, dict[str, float]]]]


async def speculation(model: Any, rounds: int, texts: tuple[str, ...]) -> dict[str, list[float]]:
    """Tokens per second with and without guesses; outputs must be equal."""
    samples: dict[str, list[float]] = defaultdict(list)
    said: dict[tuple[int, float], list[int]] = {}
    async with serving(model) as on, serving(model, speculation=False) as off:
        engines = {"on": on, "off": off}
        for text in range(len(texts)):
            for temperature in (0.0, 0.7):
                for name in interleaved(["on", "off"], rounds, seed=text):
                    bench = engines[name]
                    came = await arrivals(bench.open(bench.chat(texts[text]), 96, temperature))
                    rate = (len(came) - 1) / (came[-1][0] - came[0][0])
                    samples[f"T={temperature} {name}"].append(rate)
                    ids = [token.token_id for _, token in came]
                    assert said.setdefault((text, temperature), ids) == ids, "outputs differ"
    return samples


async def first_tokens(model: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds to the first token of a prompt of 128 tokens."""
    samples: dict[str, list[float]] = defaultdict(list)
    async with serving(model) as bench:
        for _ in range(rounds):
            samples["idle"].append(await first_token(bench, bench.noise(128)))
            prompt = bench.noise(128)
            await first_token(bench, prompt)
            samples["prefix hit"].append(await first_token(bench, prompt))
            async with company(bench, 8, 400):
                await asyncio.sleep(random.uniform(0.1, 0.15))
                samples["beside 8"].append(await first_token(bench, bench.noise(128)))
    return samples


async def gaps(model: Any, rounds: int) -> dict[str, list[float]]:
    """The worst gap of 16 streams while a long prompt joins, in median steps."""
    samples: dict[str, list[float]] = defaultdict(list)
    async with serving(model) as bench:
        for _ in range(rounds):
            async with company(bench, 16, 600) as tasks:
                await asyncio.sleep(1.0)
                joined = time.perf_counter()
                samples["prompt, s"].append(
                    await first_token(bench, bench.noise(LONG_PROMPT)) / 1e3
                )
                ended = time.perf_counter()
            plain: list[float] = []
            worst: list[float] = []
            for task in tasks:
                times = sorted({at for at, _ in task.result()})
                for before, after in itertools.pairwise(times):
                    if after < joined:
                        plain.append(after - before)
                    elif before > joined - 0.05 and after < ended + 0.2:
                        worst.append(after - before)
            median = summary(plain).median
            samples["median step, ms"].append(median * 1e3)
            samples["worst gap / median"].append(max(worst) / median)
            samples["p99 gap / median"].append(sorted(worst)[int(len(worst) * 0.99)] / median)
    return samples


async def forks(model: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds until each of several answers to one prompt has its first token."""
    samples: dict[str, list[float]] = defaultdict(list)
    async with serving(model) as bench:
        for _ in range(rounds):
            for tail, prompt in (
                ("full pages", 257),
                ("half a page", 264),
                ("a page less one", 271),
            ):
                for count in (1, 4):
                    ids = bench.noise(prompt)
                    started = time.perf_counter()
                    streams = [bench.open(ids, 1, 0.7) for _ in range(count)]
                    await asyncio.gather(*map(arrivals, streams))
                    samples[f"n={count}, {tail}"].append((time.perf_counter() - started) * 1e3)
    return samples


ROWS: dict[str, Callable[[Any, int], Awaitable[dict[str, list[float]]]]] = {
    "copying": lambda model, rounds: speculation(model, rounds, COPYING),
    "free": lambda model, rounds: speculation(model, rounds, FREE),
    "first": first_tokens,
    "gaps": gaps,
    "forks": forks,
}


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="packaged name or file")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(physical_cores())
    model = load(models.locate(arguments.model), "bench")
    result: dict[str, Any] = {"machine": machine.describe(), "rows": {}}
    for row in arguments.rows:
        samples = asyncio.run(ROWS[row](model, arguments.rounds))
        result["rows"][row] = samples
        for name, values in samples.items():
            found = summary(values)
            print(
                f"{row:>8}  {name:24} {found.median:9.2f} ({found.low:.2f} to {found.high:.2f}), "
                f"p95 {found.p95:.2f}, max {max(values):.2f}, n {found.count}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
