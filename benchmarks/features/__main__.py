"""Trains what the feature vector has learned, and measures what it is worth.

python -m benchmarks.features train     # the head of the task classifier; writes it
python -m benchmarks.features tasks     # how well tasks are named on held-out prompts
python -m benchmarks.features ablation  # what each group of features tells of the task
python -m benchmarks.features reward    # what they are worth in reward, replayed
python -m benchmarks.features cost      # what one vector costs
python -m benchmarks.features partials  # what reading a growing text by segments loses and saves
python -m benchmarks.features loops     # what forecasts cost decisions, and programs tokens
python -m benchmarks.features decodes   # decode what forecasts learn from; again until complete
python -m benchmarks.features timings   # time it, alone on the machine; again until complete
python -m benchmarks.features forecast  # train the forecast of costs, and measure its error
python -m benchmarks.features report    # only the tables, from what is stored
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import machine
from benchmarks.features import (
    ablation,
    corpus,
    costs,
    decodes,
    forecast,
    learn,
    loops,
    partials,
    report,
    reward,
    tasks,
    timings,
)
from services.feature import head, house
from services.feature.encoder import Encoder, product_type
from thermesh.models import locate

ENCODER = "all-minilm-l6-v2"


def _served() -> Encoder:
    return house.for_reading(Encoder(locate(ENCODER), product_type()))


def _train() -> dict[str, Any]:
    encoder, prompts = Encoder(locate(ENCODER)), corpus.training() + corpus.unread()
    glance, found = learn.glancing(encoder, prompts), learn.by_depth(encoder, prompts)
    chosen = learn.chosen(found)
    head.save(chosen.head, temperature=chosen.temperature)
    head.save(glance.head, head.GLANCE_FILE, temperature=glance.temperature)
    heads = [glance, *found]
    return {
        "chosen": chosen.head.depth,
        "prompts": chosen.prompts,
        "accuracy_over_folds": {each.head.depth: each.accuracy for each in heads},
        "held_out": {each.head.depth: tasks.accuracy(encoder, each.head) for each in heads},
        "sure": glance.sure,
    }


def _tasks() -> dict[str, Any]:
    return {"trained_on": len(corpus.training()), "parts": tasks.measured(_served())}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "train": _train,
    "tasks": _tasks,
    "ablation": lambda: ablation.measured(_served()),
    "reward": lambda: reward.measured(_served()),
    "cost": lambda: costs.measured(ENCODER),
    "partials": lambda: partials.measured(_served()),
    "forecast": lambda: forecast.measured(_served()),
    "loops": loops.measured,
}

COLLECTS: dict[str, Callable[[float], bool]] = {
    "decodes": decodes.collect,
    "timings": timings.measure,
}


def main() -> None:
    """Run one part, store it as JSON, and write the tables anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, *COLLECTS, "report"])
    parser.add_argument("--seconds", type=float, default=1e9, help="collect for at most so long")
    arguments = parser.parse_args()
    part = arguments.part
    torch.set_num_threads(1)
    if part in COLLECTS:
        is_done = COLLECTS[part](arguments.seconds)
        print("complete" if is_done else "not complete: run it again")
        return
    if part in PARTS:
        report.save(part, {"machine": machine.describe(), **PARTS[part]()})
    report.publish()


if __name__ == "__main__":
    main()
