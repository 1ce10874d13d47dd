"""What a light path is worth in speed: alone, and guessing for the whole network.

    thermesh distil smollm2-135m-instruct light.gguf --bits 0 --light 0.375
    python -m benchmarks.light_speed light.gguf light.gguf.json

Measures, in turns within one process: a decode step of the whole network and of its light
path; a step of the whole that checks one to four guesses; and self-speculation, greedy,
whose text must be that of the whole. Publishes figures and table.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.spread import summary
from services.inference.cores import physical_cores
from services.inference.kernels import PAGE_SIZE, Span, StepBatch
from services.inference.models import load

PAGE = machine.ROOT / "docs" / "architecture" / "distillation.md"
PUBLISHED = machine.ROOT / "benchmarks" / "results" / "light-speed.json"
BEGIN, END = "<!-- light speed: begin -->\n", "<!-- light speed: end -->\n"
ROUNDS, TOKENS, GUESSES = 7, 48, (1, 2, 3, 4)
PROMPTS = (
    "The history of the Roman Empire begins",
    "To make a good vegetable soup you need",
    "def quicksort(items):",
    "Photosynthesis is the process by which",
    "Dear colleagues, I am writing to",
)


class Text:
    """One greedy text behind a prompt, on one cache for both networks."""

    def __init__(self, network: Any, prompt: Sequence[int]) -> None:
        self._pages = tuple(range(-(-(len(prompt) + TOKENS + 8) // PAGE_SIZE)))
        self._cache = network.new_cache(len(self._pages))
        self.ids = list(prompt)
        self.told(network, self.ids[:-1], 0)

    def told(self, network: Any, ids: Sequence[int], first: int, logits: int = 1) -> list[int]:
        """Return the likeliest token behind each of the last `logits` of `ids`."""
        end = first + len(ids)
        span = Span(0, len(ids), end, self._pages, logits)
        batch = StepBatch(np.array(ids), np.arange(first, end), (span,))
        found: list[int] = network.step(batch, self._cache).argmax(-1).tolist()
        return found

    def decode(self, network: Any, count: int) -> None:
        """Take `count` steps of one token."""
        for _ in range(count):
            self.ids += self.told(network, self.ids[-1:], len(self.ids) - 1)

    def speculate(self, whole: Any, light: Any, guesses: int, count: int) -> tuple[int, int]:
        """Take `count` tokens or some more; return the steps of the whole, and guesses right."""
        end, steps, right = len(self.ids) + count, 0, 0
        while len(self.ids) < end:
            known, drafted = len(self.ids), list(self.ids)
            for _ in range(guesses):
                drafted += self.told(light, drafted[-1:], len(drafted) - 1)
            told = self.told(whole, drafted[known - 1 :], known - 1, guesses + 1)
            same = next((n for n, guess in enumerate(drafted[known:]) if guess != told[n]), guesses)
            self.ids += told[: same + 1]
            steps, right = steps + 1, right + same
        return steps, right


def measured(path: pathlib.Path) -> dict[str, Any]:
    """Return milliseconds and shares by name."""
    model = load(path, "light")
    whole, light = model.network, model.network.light_network
    whole.use_threads(physical_cores())
    prompts = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    speculating = {n: _speculation(whole, light, prompts, n) for n in GUESSES}
    contenders: dict[str, Callable[[], float]] = {
        "whole": lambda: _decode_ms(whole, whole, prompts[0]),
        "light": lambda: _decode_ms(whole, light, prompts[0]),
    }
    for rows in GUESSES:
        contenders[f"check {rows}"] = lambda rows=rows: _check_ms(whole, prompts[0], rows)
        contenders[f"speculating {rows}"] = lambda rows=rows: _run_ms(
            whole, light, prompts[0], rows
        )
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            samples[name].append(work())
    return {
        "bytes": {"whole": whole.weight_bytes, "light": light.weight_bytes},
        "ms": {name: dataclasses.asdict(summary(found)) for name, found in samples.items()},
        "speculation": speculating,
    }


def _decode_ms(whole: Any, network: Any, prompt: Sequence[int]) -> float:
    text = Text(whole, prompt)
    return _timed(lambda: text.decode(network, TOKENS)) / TOKENS


def _check_ms(whole: Any, prompt: Sequence[int], guesses: int) -> float:
    text = Text(whole, prompt)
    ids, first = [text.ids[-1], *range(100, 100 + guesses)], len(text.ids) - 1
    steps = TOKENS // 2
    return _timed(lambda: [text.told(whole, ids, first, len(ids)) for _ in range(steps)]) / steps


def _run_ms(whole: Any, light: Any, prompt: Sequence[int], guesses: int) -> float:
    text = Text(whole, prompt)
    before = len(text.ids)
    spent = _timed(lambda: text.speculate(whole, light, guesses, TOKENS))
    return spent / (len(text.ids) - before)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _speculation(
    whole: Any, light: Any, prompts: Sequence[Sequence[int]], guesses: int
) -> dict[str, float]:
    """Return how many guesses are right, and whether all texts are those of the whole."""
    steps = right = exact = 0
    for prompt in prompts:
        plain, guessed = Text(whole, prompt), Text(whole, prompt)
        plain.decode(whole, TOKENS)
        found = guessed.speculate(whole, light, guesses, TOKENS)
        steps, right = steps + found[0], right + found[1]
        exact += guessed.ids[: len(plain.ids)] == plain.ids
    return {"right": right / (steps * guesses), "exact": exact, "texts": len(prompts)}


def table(result: dict[str, Any]) -> str:
    """Return conditions and figures as Markdown."""
    host, ms, light = result["machine"], result["ms"], result["light"]
    whole, part = ms["whole"]["median"], ms["light"]["median"]
    sizes = {name: count / 1e6 for name, count in result["bytes"].items()}
    lines = [
        (
            f"{light['neurons']} neurons, all heads: {sizes['light']:.1f} MB of"
            f" {sizes['whole']:.1f}; one stream behind a short prompt, {ROUNDS} samples in turns"
            f" of {TOKENS} tokens, {physical_cores()} threads; {host['processor']},"
            f" commit `{host['commit']}` with {host['changed_files']} changed files.\n"
        ),
        "| | ms (quartiles) | times as fast as the whole | guesses right | texts equal |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| whole, a token | {_spread(ms['whole'])} | 1.00 | | |",
        f"| light, a token | {_spread(ms['light'])} | {whole / part:.2f} | | |",
    ]
    for count, found in result["speculation"].items():
        check, run = (ms[f"{name} {count}"] for name in ("check", "speculating"))
        best = (int(count) + 1) * whole / (int(count) * part + check["median"])
        right = f"{found['right']:.0%} | {found['exact']} of {found['texts']}"
        lines += [
            f"| checking {count} | {_spread(check)} | | | |",
            (
                f"| guessing {count}, a token | {_spread(run)} |"
                f" {whole / run['median']:.2f} (were all right: {best:.2f}) | {right} |"
            ),
        ]
    return "\n".join(lines) + "\n"


def _spread(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def publish(file: pathlib.Path, report: pathlib.Path) -> None:
    """Measure, keep the figures as the published ones and put them on the page."""
    found = json.loads(report.read_text(encoding="utf-8"))
    result = {**measured(file), "light": found["light"], "machine": machine.describe()}
    PUBLISHED.write_text(json.dumps(result) + "\n", encoding="utf-8")
    result = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(result) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    publish(*(pathlib.Path(argument) for argument in sys.argv[1:3]))
