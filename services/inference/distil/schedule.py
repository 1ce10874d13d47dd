"""How fast to learn, and from which texts: functions of how far a run is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

_WARM_UP = 0.05
_LAST = 0.05


@dataclass
class Progress:
    """How far a run is, over all its interruptions."""

    seconds: float = 0.0
    steps: int = 0
    means: list[float] = field(default_factory=list)
    """Divergence before each step, in nats: of texts not seen before in the first round."""

    def share(self, budget_seconds: float) -> float:
        """Return the part of the time that is spent, in [0, 1]."""
        return min(self.seconds / budget_seconds, 1.0) if budget_seconds > 0 else 1.0


def rate(share: float, highest: float) -> float:
    """Return the rate at `share` of a run: up in a twentieth, then down along a cosine."""
    if share < _WARM_UP:
        return highest * max(share / _WARM_UP, _LAST)
    falling = 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP)))
    return highest * (_LAST + (1 - _LAST) * falling)


def batch(step: int, texts: int, size: int, seed: int) -> Sequence[int]:
    """Return which texts step `step` reads: each text once before any twice."""
    found: list[int] = []
    for place in range(step * size, (step + 1) * size):
        generator = torch.Generator().manual_seed(seed + place // texts)
        order = torch.randperm(texts, generator=generator)
        found.append(int(order[place % texts]))
    return found
