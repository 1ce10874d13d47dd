"""What the user wants done: cues and the encoder's embedding, a classifier that may abstain.

With the encoder it is made for, the trained head (`head`) weighs embedding and cues, and
says how probable it is that the encoder could not read the text at all; that share is
given to the cues alone. Another encoder votes with the mean cosine of the text to its
NEIGHBOURS nearest prototypes, to which cues add evidence in the same unit of log odds.
A text that the encoder has not read is named by a head of its token vectors (`glance`), which
is as sure of itself as it is right. Without an encoder the cues speak alone, and where nothing
speaks all tasks are equally probable and the classifier abstains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.feature.cues import log_odds
from services.feature.encoding import Embedding
from services.feature.head import Head
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


@dataclass(frozen=True, eq=False)
class Glancing:
    """What looks at token vectors, and the head that reads them."""

    look: Callable[[str], Embedding]
    head: Head


class TaskClassifier:
    """Guesses tasks by `head`, else by prototypes that `embed` is asked for once; what the
    encoder has not read by `glancing`, else by cues.
    """

    def __init__(
        self,
        embed: Callable[[str], Embedding] | None = None,
        head: Head | None = None,
        glancing: Glancing | None = None,
    ) -> None:
        self._head = head
        self._glancing = glancing
        self._prototypes: dict[str, Embedding] = {}
        if embed and head is None:
            for task, texts in PROTOTYPES.items():
                self._prototypes[task] = np.stack([embed(text) for text in texts])

    def guess(self, text: str, embedding: Embedding | None) -> TaskGuess:
        """Return the guess for `text`; `embedding` is None where the encoder has not read it."""
        odds = log_odds(text)
        if embedding is None:
            if self._glancing is None:
                return decide(_softmax(odds))
            return _weighed(self._glancing.head, self._glancing.look(text), odds)
        if self._head is None:
            return decide(
                _softmax([a + b for a, b in zip(odds, self._votes(embedding), strict=True)])
            )
        return _weighed(self._head, embedding, odds)

    def _votes(self, embedding: Embedding) -> list[float]:
        return [COSINE_WEIGHT * self._affinity(task, embedding) for task in TASKS]

    def _affinity(self, task: str, embedding: Embedding) -> float:
        if task not in self._prototypes:
            return 0.0
        nearest = np.sort(self._prototypes[task] @ embedding)[-NEIGHBOURS:]
        return float(nearest.mean())


def _weighed(head: Head, embedding: Embedding, odds: list[float]) -> TaskGuess:
    """Give the cues the share of the probability that `head` could not read the text."""
    *read, unread = head.probabilities(embedding, odds).tolist()
    return decide([p + unread * cue for p, cue in zip(read, _softmax(odds), strict=True)])


def decide(probabilities: list[float]) -> TaskGuess:
    """Name the most probable task, unless it is too unsure."""
    confidence = max(probabilities)
    task = TASKS[probabilities.index(confidence)] if confidence >= ABSTAIN_BELOW else ""
    return TaskGuess(tuple(probabilities), task, confidence)


def _softmax(odds: list[float]) -> list[float]:
    greatest = max(odds)
    weights = [math.exp(value - greatest) for value in odds]
    total = sum(weights)
    return [weight / total for weight in weights]
