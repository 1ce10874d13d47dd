"""What an engine in the comparison answers to, and the loop in which it answers.

A contender is a process. Its options come as JSON on the command line, each
request as a line of JSON on stdin ({"call": ..., "arguments": {...}}), each
answer as a line on stdout ({"result": ...} or {"error": ...}). Peers have
other dependencies than we do, so this module needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

ARRIVALS = 6
"""Prompts that arrive, one after the other, in one sample of `first_token`."""
STEPS_BETWEEN_ARRIVALS = 4
STREAM_CONTEXT = 256
LOWEST_TOKEN, HIGHEST_TOKEN = 100, 40_000


class Contender(Protocol):
    """An engine with its model loaded, greedy, at the settings it is best with.

    Prompts are random token ids: what they say costs nothing. Rates are in
    tokens per second, times in milliseconds.
    """

    def describe(self) -> dict[str, str]:
        """Return versions and settings that a reader needs."""
        ...

    def prefill(self, tokens: int) -> float:
        """Return the rate of a new prompt, up to its first token."""
        ...

    def decode(self, context: int, steps: int, streams: int = 1) -> float:
        """Return the rate over all of `streams`, each behind `context` tokens."""
        ...

    def first_token(self, prompt: int, streams: int) -> list[float]:
        """Return what each of several new prompts took to its first token.

        They come one after the other while `streams` others decode; each comes
        at a random moment of a running step and joins the next.
        """
        ...


def random_prompt(draw: random.Random, tokens: int) -> list[int]:
    """Return ids that no prefix cache has seen."""
    return [draw.randrange(LOWEST_TOKEN, HIGHEST_TOKEN) for _ in range(tokens)]


def during_a_step(draw: random.Random, step: Callable[[], object]) -> float:
    """Take steps until a random moment of one has passed; return that moment, perf_counter.

    Whoever arrives then waits for the rest of the step, as in a server.
    """
    for _ in range(STEPS_BETWEEN_ARRIVALS):
        began = time.perf_counter()
        step()
        seconds = time.perf_counter() - began
    arrived = time.perf_counter() + draw.random() * seconds
    while time.perf_counter() < arrived:
        step()
    return arrived


def resident_mib() -> dict[str, float]:
    """Return what of this process is in memory: all of it, and less mapped files, MiB."""
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")}


def serve(load: Callable[[dict[str, Any]], Contender]) -> None:
    """Load the contender and answer until stdin ends.

    `footprint` is answered here: seconds of loading, imports not counted, and
    memory in MiB before it, after it and now, and what a contender adds to that.
    """
    with _answers() as answer:
        options = json.loads(sys.argv[1])
        footprint = {"before_mib": resident_mib()["VmRSS"]}
        footprint["file_mib"] = pathlib.Path(options["model"]).stat().st_size / 2**20
        began = time.perf_counter()
        contender = load(options)
        footprint["load_seconds"] = time.perf_counter() - began
        footprint["loaded_mib"] = resident_mib()["VmRSS"]
        for line in sys.stdin:
            request = json.loads(line)
            if request["call"] == "footprint":
                now = resident_mib()
                footprint |= {"now_mib": now["VmRSS"], "own_mib": now["RssAnon"]}
                answer({"result": footprint | getattr(contender, "footprint", dict)()})
                continue
            try:
                answer({"result": getattr(contender, request["call"])(**request["arguments"])})
            except Exception as error:
                answer({"error": f"{type(error).__name__}: {error}"})


@contextmanager
def _answers() -> Iterator[Callable[[object], None]]:
    # Engines print to stdout; from here on that goes to stderr.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield lambda answer: print(json.dumps(answer), file=out, flush=True)
