"""The curves of the study for TensorBoard and Weights & Biases, where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

STEP = 100
"""Pieces of feedback between two points of a curve."""


def points(found: dict[str, Any]) -> Iterator[tuple[str, int, float]]:
    """Return (name, feedback, mean reward) of every curve."""
    for grid, learners in found["learned"].items():
        for name, each in learners.items():
            for index, value in enumerate(each.get("curve", ())):
                yield f"{grid}/{name}", (index + 1) * STEP, value


def export(found: dict[str, Any], tensorboard: str | None, wandb: str | None) -> None:
    """Write to the places that are named; raises ImportError naming what is not installed."""
    if tensorboard:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(tensorboard)
        for name, step, value in points(found):
            writer.add_scalar(name, value, step)
        writer.close()
    if wandb:
        run = importlib.import_module("wandb").init(project=wandb, config=found["matrix"])
        for name, step, value in points(found):
            run.log({name: value, "feedback": step})
        run.finish()
