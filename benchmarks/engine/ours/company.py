"""What the scheduler does with requests that differ, and with requests that are alike."""

from __future__ import annotations

import itertools
import time

import numpy as np

from benchmarks.engine.contender import random_prompt
from benchmarks.engine.ours.thermesh import Thermesh
from services.inference.kernels import LIGHT, PAGE_SIZE, Span, Sparsity, StepBatch

SEQUENCES = 8
"""Of each kind."""
Spans = list[tuple[tuple[int, ...], Sparsity | None]]
"""The page table of each sequence, and how it chooses what it reads."""


def mixed(contender: Thermesh, short: int, long: int, is_light: bool) -> dict[str, float]:
    """Return milliseconds of a step of sequences of `short` and of `long` tokens
    together, and of a step of each kind; the long ones may choose what they read.
    """
    pages = [SEQUENCES * tokens // PAGE_SIZE for tokens in (short, long)]
    network = contender.model.network
    cache = network.new_cache(sum(pages))
    every = iter(range(sum(pages)))
    tables = [
        [tuple(itertools.islice(every, tokens // PAGE_SIZE)) for _ in range(SEQUENCES)]
        for tokens in (short, long)
    ]

    def step(group: Spans) -> float:
        lengths = [len(table) * PAGE_SIZE for table, _ in group]
        spans = [
            Span(place, 1, lengths[place], table, sparsity=chosen)
            for place, (table, chosen) in enumerate(group)
        ]
        ids, positions = np.arange(len(spans)), np.array(lengths) - 1
        began = time.perf_counter()
        network.step(StepBatch(ids, positions, tuple(spans)), cache)  # type: ignore[arg-type]
        return 1000 * (time.perf_counter() - began)

    first = Span(0, PAGE_SIZE, PAGE_SIZE, (0,))
    ids = np.arange(PAGE_SIZE)
    network.step(StepBatch(ids, ids, (first,)), cache)  # type: ignore[arg-type]
    for page in range(1, cache.pages):
        cache.copy_page(0, page)
    ends: list[Spans] = [
        [(table, chosen) for table in group]
        for group, chosen in zip(tables, (None, LIGHT if is_light else None), strict=True)
    ]
    everyone = [*ends[0], *ends[1]]
    step(everyone)
    apart = step(ends[0]) + step(ends[1])
    return {"together": step(everyone), "apart": apart}


def forks(contender: Thermesh, prompt: int, answers: int) -> float:
    """Return milliseconds until each of several answers to a new prompt has begun."""
    ids = random_prompt(contender.draw, prompt)
    began = time.perf_counter()
    # Longer than a token: an end is copied from who still runs.
    streams = [contender.open(ids, max_tokens=8) for _ in range(answers)]
    contender.until_begun(streams)
    seconds = max(stream.times[0] for stream in streams) - began
    contender.close()
    return 1000 * seconds
