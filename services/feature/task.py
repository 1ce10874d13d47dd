"""Which kind of task a text asks for: the encoder's prototypes and lexical cues.

The encoder gives each task the mean cosine of the text to its NEIGHBOURS
nearest prototypes; cues add evidence in the same unit of log odds. Their sum
goes through a softmax. Without the encoder the cues alone speak, and where
nothing speaks all tasks are equally probable and the classifier abstains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.feature.cues import log_odds
from services.feature.encoding import Embedding
from services.feature.prototypes import PROTOTYPES
from thermesh.features import TASKS

NEIGHBOURS = 3

COSINE_WEIGHT = 14.0
"""Log odds that a cosine of one is worth. Cosines of the default encoder between
a text and prototypes of its task lie some 0.1 to 0.3 above those of others."""

ABSTAIN_BELOW = 0.4
"""Least probability with which a task is named at all."""


@dataclass(frozen=True)
class TaskGuess:
    """What the classifier says.

    `probabilities` follow the order of TASKS and sum to 1; `task` is the most
    probable, empty where the classifier abstains; `confidence` is the greatest
    probability either way.
    """

    probabilities: tuple[float, ...]
    task: str
    confidence: float


class TaskClassifier:
    """Guesses tasks; `embed` is asked once for each prototype, None: cues alone."""

    def __init__(self, embed: Callable[[str], Embedding] | None = None) -> None:
        self._prototypes: dict[str, Embedding] = {}
        if embed:
            for task, texts in PROTOTYPES.items():
                self._prototypes[task] = np.stack([embed(text) for text in texts])

    def guess(self, text: str, embedding: Embedding | None) -> TaskGuess:
        """Return the guess for `text`; `embedding` is None where the encoder is late."""
        odds = log_odds(text)
        if embedding is not None:
            for index, task in enumerate(TASKS):
                odds[index] += COSINE_WEIGHT * self._affinity(task, embedding)
        return decide(odds)

    def _affinity(self, task: str, embedding: Embedding) -> float:
        if task not in self._prototypes:
            return 0.0
        nearest = np.sort(self._prototypes[task] @ embedding)[-NEIGHBOURS:]
        return float(nearest.mean())


def decide(odds: list[float]) -> TaskGuess:
    """Turn log odds into probabilities and name the best, unless it is too unsure."""
    greatest = max(odds)
    weights = [math.exp(value - greatest) for value in odds]
    total = sum(weights)
    probabilities = tuple(weight / total for weight in weights)
    confidence = max(probabilities)
    task = TASKS[probabilities.index(confidence)] if confidence >= ABSTAIN_BELOW else ""
    return TaskGuess(probabilities, task, confidence)
