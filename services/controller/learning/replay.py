"""A small memory of experiences, so that what was learned is also repeated.

Every task keeps its newest PER_TASK. A task is drawn with a weight that halves
with every HALF_LIFE pieces of feedback since its last one, but never goes below
LEAST: recent tasks come up most, old ones never stop. The more the requests of a task
look like those that are learned from just now, the less it needs repeating, down to
half as often: what is learned of these holds for it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.controller.decisions.experience import Experience
from services.controller.policies.gaussian import NEUTRAL, Vector

PER_TASK = 8
HALF_LIFE = 500.0
LEAST = 0.2
SAVED_BY_SIMILARITY = 0.5


@dataclass(frozen=True, slots=True)
class Ring:
    """The newest experiences of one task; `last` is the feedback count of the newest."""

    last: int
    experiences: tuple[Experience, ...]

    def centre(self) -> Vector:
        """Return how its requests differ from a neutral one on average, [features]."""
        features = [each.decision.features for each in self.experiences]
        return np.asarray(np.mean(features, axis=0) - NEUTRAL)


def similarity(first: Vector, other: Vector) -> float:
    """Return how alike two centres are, in [0, 1]: their cosine, 0 where it is negative."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(other))
    return max(0.0, float(first @ other) / lengths) if lengths > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class Buffer:
    """The rings by task."""

    rings: Mapping[str, Ring] = field(default_factory=dict)

    def with_one(self, experience: Experience, count: int) -> Buffer:
        """Return the buffer after the experience that was the `count`-th feedback."""
        task = experience.decision.task
        kept = self.rings[task].experiences if task in self.rings else ()
        ring = Ring(count, (*kept, experience)[-PER_TASK:])
        return Buffer({**self.rings, task: ring})

    def drawn(self, count: int, number: int) -> list[Experience]:
        """Return `number` experiences to repeat; a function of buffer and feedback count."""
        if not self.rings:
            return []
        generator = np.random.default_rng(count)
        tasks = sorted(self.rings)
        ages = np.array([count - self.rings[task].last for task in tasks])
        weights = np.maximum(0.5 ** (ages / HALF_LIFE), LEAST)
        weights *= 1.0 - SAVED_BY_SIMILARITY * self._similarities(tasks)
        chosen = generator.choice(len(tasks), size=number, p=weights / weights.sum())
        rings = [self.rings[tasks[index]].experiences for index in chosen]
        return [ring[int(generator.integers(len(ring)))] for ring in rings]

    def _similarities(self, tasks: list[str]) -> Vector:
        """Return how alike each task and the newest are, [tasks]."""
        centres = {task: self.rings[task].centre() for task in tasks}
        newest = max(tasks, key=lambda task: self.rings[task].last)
        return np.array([similarity(centres[newest], centres[task]) for task in tasks])

    def to_lists(self) -> dict[str, Any]:
        """Return the stored form."""
        return {
            task: [ring.last, [each.to_lists() for each in ring.experiences]]
            for task, ring in self.rings.items()
        }

    @classmethod
    def from_lists(cls, stored: dict[str, Any]) -> Buffer:
        """Undo `to_lists`."""
        return cls(
            {
                task: Ring(last, tuple(Experience.from_lists(each) for each in experiences))
                for task, (last, experiences) in stored.items()
            }
        )
