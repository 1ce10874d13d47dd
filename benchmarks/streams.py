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
from services.inference.kernels import PAGE_SIZE, Span, StepBatch
from services.inference.limits import Limits
from services.inference.models import load
from services.inference.request import Context, Request
from services.inference.sampling import Fixed, Sampling
from services.inference.stream import Stream
from thermesh import models
from thermesh.clock import SystemClock
from thermesh.testing import eventually

BEGIN, END = "<!-- streams: begin -->\n", "<!-- streams: end -->\n"
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
async def serving(model: Any, kv_pages: int = KV_PAGES, **limits: Any) -> AsyncIterator[Bench]:
    """Run an engine with these limits."""
    clock = SystemClock()
    chosen = Limits(**limits)
    decoder = Decoder(model.network, model.tokenizer, chosen, kv_pages, clock)
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
            async with company(bench, 16, 1000) as tasks:
                await asyncio.sleep(1.0)
                joined = time.perf_counter()
                samples["prompt, s"].append(
                    await first_token(bench, bench.noise(LONG_PROMPT)) / 1e3
                )
                ended = time.perf_counter()
                await asyncio.sleep(2.0)
            plain: list[float] = []
            late: list[float] = []
            worst: list[float] = []
            for task in tasks:
                times = sorted({at for at, _ in task.result()})
                for before, after in itertools.pairwise(times):
                    if after < joined:
                        plain.append(after - before)
                    elif before > joined - 0.05 and after < ended + 0.2:
                        worst.append(after - before)
                    elif before > ended + 0.2:
                        late.append(after - before)
            median = summary(plain).median
            samples["median step before, ms"].append(median * 1e3)
            samples["median step after, ms"].append(summary(late).median * 1e3)
            samples["worst gap / median after"].append(max(worst) / summary(late).median)
            samples["worst gap / median"].append(max(worst) / median)
            samples["p99 gap / median"].append(sorted(worst)[int(len(worst) * 0.99)] / median)
    return samples


async def forks(model: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds until each of several answers to one prompt has its first token."""
    samples: dict[str, list[float]] = defaultdict(list)
    async with serving(model) as bench:
        for _ in range(rounds):
            for tail, prompt in (
                ("full pages", 241),
                ("half a page", 248),
                ("a page less one", 255),
            ):
                for count in (1, 4):
                    ids = bench.noise(prompt)
                    started = time.perf_counter()
                    # Longer than a token: an end is copied from who still runs.
                    streams = [bench.open(ids, 8, 0.7) for _ in range(count)]
                    answers = await asyncio.gather(*map(arrivals, streams))
                    last = max(came[0][0] for came in answers)
                    samples[f"n={count}, {tail}"].append((last - started) * 1e3)
    return samples


async def grouping(model: Any, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step of 8 short and 8 long sequences, and of a step of each kind."""
    samples: dict[str, list[float]] = defaultdict(list)
    network, long_pages, short_pages = model.network, 94, 5
    network.use_threads(physical_cores())
    cache = network.new_cache(8 * (long_pages + short_pages))
    every = iter(range(8 * (long_pages + short_pages)))
    long = [tuple(itertools.islice(every, long_pages)) for _ in range(8)]
    short = [tuple(itertools.islice(every, short_pages)) for _ in range(8)]

    def step(tables: list[tuple[int, ...]]) -> float:
        lengths = [len(table) * PAGE_SIZE for table in tables]
        spans = [Span(i, 1, lengths[i], table) for i, table in enumerate(tables)]
        ids, positions = torch.arange(len(spans)), torch.tensor(lengths) - 1
        started = time.perf_counter()
        network.step(StepBatch(ids, positions, tuple(spans)), cache)
        return (time.perf_counter() - started) * 1e3

    first = Span(0, PAGE_SIZE, PAGE_SIZE, (0,))
    network.step(StepBatch(torch.arange(PAGE_SIZE), torch.arange(PAGE_SIZE), (first,)), cache)
    for page in range(1, cache.pages):
        cache.copy_page(0, page)
    for _ in range(4 * rounds):
        together = step(long + short)
        of_long, of_short = step(long), step(short)
        samples["together"].append(together)
        samples["long, then short"].append(of_long + of_short)
    return samples


ROWS: dict[str, Callable[[Any, int], Awaitable[dict[str, list[float]]]]] = {
    "copying": lambda model, rounds: speculation(model, rounds, COPYING),
    "free": lambda model, rounds: speculation(model, rounds, FREE),
    "first": first_tokens,
    "gaps": gaps,
    "forks": forks,
    "grouping": grouping,
}
UNITS = {
    "copying": "tok/s",
    "free": "tok/s",
    "first": "ms",
    "gaps": "",
    "forks": "ms",
    "grouping": "ms",
}


def table(result: dict[str, Any]) -> str:
    """Return all rows as a table of the page."""
    described = result["machine"]
    lines = [
        f"{described['processor']}, {described['at']}.",
        "",
        "| row | | unit | median | quartiles | worst | n | commit |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row, samples in result["rows"].items():
        for name, values in samples.items():
            found = summary(values)
            worst = min(values) if UNITS[row] == "tok/s" else max(values)
            lines.append(
                f"| {row} | {name} | {UNITS[row]} | {found.median:.1f} "
                f"| {found.low:.1f} to {found.high:.1f} | {worst:.1f} | {found.count} "
                f"| {result['commits'][row]} |"
            )
    return "\n".join(lines)


def publish(result: dict[str, Any]) -> None:
    """Put the table between the markers of docs/benchmarks.md."""
    page = pathlib.Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(result)}\n\n{END}{after}")


def main() -> None:
    """Measure, print, and write JSON and the page where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="packaged name or file")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--merge", action="store_true", help="keep the other rows of the JSON")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    arguments = parser.parse_args()
    torch.set_num_threads(physical_cores())
    model = load(models.locate(arguments.model), "bench")
    result: dict[str, Any] = {"machine": machine.describe(), "rows": {}, "commits": {}}
    if arguments.merge and arguments.json.exists():
        earlier = json.loads(arguments.json.read_text(encoding="utf-8"))
        result["rows"], result["commits"] = earlier["rows"], earlier["commits"]
    for row in arguments.rows:
        result["rows"][row] = asyncio.run(ROWS[row](model, arguments.rounds))
        result["commits"][row] = result["machine"]["commit"]
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.publish:
        publish(result)


if __name__ == "__main__":
    main()
