"""Collects answers: every prompt under every arm, resumable, with progress.

    thermesh bench policy collect --seconds 110      # again until it says complete

Answers are appended to JSONL files below the working folder; what is there is not
decoded again. First one sample of every prompt in shuffled order, then the next one.
"""

from __future__ import annotations

import json
import pathlib
import random
import sys
import time
import zlib
from collections.abc import Iterator, Sequence

import torch

from benchmarks.policy.arms import Arm, decoded
from benchmarks.policy.families import FAMILIES, PROMPTS, Family
from benchmarks.policy.tree import Run, TreeDecoder
from services.inference.limits import Limits
from services.inference.models import LoadedModel, load
from thermesh import models
from thermesh.clock import SystemClock

Key = tuple[str, int, int]
PAGES, BRANCHES = 800, 40
MODEL = models.SMOLLM2


def cells(samples: int) -> list[Key]:
    """Return (family, prompt, sample) in the order of collection."""
    prompts = [(family.name, index) for family in FAMILIES for index in range(PROMPTS)]
    random.Random("order").shuffle(prompts)
    return [(*prompt, sample) for sample in range(samples) for prompt in prompts]


def done(path: pathlib.Path) -> set[Key]:
    """Return the cells that a file has."""
    return {(each["family"], each["prompt"], each["sample"]) for each in records(path)}


def records(path: pathlib.Path) -> Iterator[dict]:
    """Read a file of answers; a last line that was cut off is left out."""
    if not path.exists():
        return
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


class Collector:
    """One model, decoding runs until the time is over."""

    def __init__(self, model: LoadedModel) -> None:
        limits = Limits(max_running=BRANCHES + 24, max_waiting=100_000, stretch=1000.0)
        self.model = model
        self.decoder = TreeDecoder(model.network, model.tokenizer, limits, PAGES, SystemClock())
        self.decoder.use_threads(1)
        self.decoder.end_ids = model.tokenizer.end_ids
        self.decoder.vocabulary_size = model.config.vocabulary_size
        self.decoder.finished = []
        self._prompts = {family.name: family.prompts() for family in FAMILIES}
        self._families: dict[str, Family] = {family.name: family for family in FAMILIES}

    def run_of(self, key: Key, arms: Sequence[Arm]) -> Run:
        """Return the run of one cell."""
        name, index, sample = key
        prompt = self._prompts[name][index]
        ids = tuple(self.model.tokenizer.encode_chat(prompt.turns))
        seed = zlib.crc32(f"{name}/{index}/{sample}".encode())
        label = f"{name}/{index}/{sample}"
        active = decoded(tuple(arms), index)
        return Run(label, ids, seed, self._families[name].cap, arms, active)

    def collected(self, wanted: Iterator[Run], until: float) -> Iterator[Run]:
        """Decode `wanted`; begin none after `until` (monotonic seconds)."""
        decoder = self.decoder
        with torch.inference_mode():
            is_open = True
            while True:
                while is_open and decoder.scheduler.request_count < BRANCHES:
                    run = next(wanted, None) if time.monotonic() < until else None
                    is_open = run is not None
                    if run is not None:
                        decoder.begin(run)
                worked = decoder.step().worked
                yield from decoder.finished
                decoder.finished = []
                if not worked and not is_open:
                    return


def as_record(run: Run) -> dict:
    """Return the stored form of a run."""
    family, prompt, sample = run.key.split("/")
    lengths = {arm: len(leaf.tokens) for leaf in run.leaves for arm in leaf.arms}
    return {
        "family": family,
        "prompt": int(prompt),
        "sample": int(sample),
        "temperatures": [
            round(run.temperatures[arm] / lengths[arm], 3) if arm in lengths else None
            for arm in range(len(run.arms))
        ],
        "answers": [
            {
                "arms": leaf.arms,
                "tokens": leaf.tokens,
                "log_probabilities": [round(each, 2) for each in leaf.log_probabilities],
                "entropies": [round(each, 2) for each in leaf.entropies],
            }
            for leaf in run.leaves
        ],
    }


def collect(
    path: pathlib.Path, arms_of: dict[str, Sequence[Arm]], wanted: list[Key], seconds: float
) -> bool:
    """Append answers to `path` for up to `seconds`; return whether all are there."""
    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    have = done(path)
    missing = [key for key in wanted if key not in have]
    if not missing:
        return True
    began = time.monotonic()
    collector = Collector(load(models.locate(MODEL.name), MODEL.name))
    runs = (collector.run_of(key, arms_of[key[0]]) for key in missing)
    count, told = 0, began
    with path.open("a") as file:
        for run in collector.collected(runs, began + seconds):
            file.write(json.dumps(as_record(run), separators=(",", ":")) + "\n")
            file.flush()
            count += 1
            if time.monotonic() - told > 5.0:
                told = time.monotonic()
                _tell(collector, len(have) + count, len(wanted), count, told - began)
    _tell(collector, len(have) + count, len(wanted), count, time.monotonic() - began)
    return count == len(missing)


def _tell(collector: Collector, have: int, wanted: int, count: int, seconds: float) -> None:
    decoder, rate = collector.decoder, count / seconds
    left = (wanted - have) / rate / 60.0 if rate else 0.0
    print(
        f"{have}/{wanted} prompts, {decoder.token_count / seconds:.0f} tokens/s from"
        f" {decoder.forward_count / seconds:.0f} drawn places/s, {left:.0f} min left",
        file=sys.stderr,
        flush=True,
    )
