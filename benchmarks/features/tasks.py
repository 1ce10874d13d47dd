"""How well tasks are named: accuracy, confusion, calibration and abstention.

An abstention counts as wrong in `accuracy`; `right_when_named` leaves abstentions out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.features import corpus
from benchmarks.features.corpus import Prompt
from services.feature.config import Config
from services.feature.encoder import Encoder
from services.feature.head import Head
from services.feature.house import classifier
from services.feature.task import TaskClassifier, TaskGuess
from thermesh.features import TASKS

BINS = 10


def measured(encoder: Encoder) -> dict[str, Any]:
    """Return the figures of each part, with the encoder and by cues alone."""
    held_out = corpus.held_out()
    parts = {"held-out": held_out, "held-out, as heard": corpus.as_heard(held_out)}
    parts["held-out, later"] = corpus.later()
    parts["held-out, word for word"] = corpus.verbatim()
    parts["held-out, with numbers"] = corpus.numbers()
    parts |= {f"held-out, {name}": corpus.in_language(name) for name in corpus.LANGUAGES}
    full, cues = classifier(encoder), TaskClassifier()

    def read(text: str) -> TaskGuess:
        return full.guess(text, encoder.encode(text).embedding)

    def served(text: str) -> TaskGuess:
        glance = full.guess(text, None)
        return glance if glance.confidence > Config().sure else read(text)

    paths: dict[str, Callable[[str], TaskGuess]] = {
        "as served": served,
        "encoder": read,
        "at a glance": lambda text: full.guess(text, None),
        "cues": lambda text: cues.guess(text, None),
    }
    return {
        name: {path: figures(prompts, guess) for path, guess in paths.items()}
        for name, prompts in parts.items()
    }


def accuracy(encoder: Encoder, head: Head) -> float:
    """Return how often `head` names English held-out prompts right."""
    reads, look = encoder.truncated(head.depth), encoder.glance
    named = TaskClassifier(head=head)
    found = figures(
        corpus.held_out(),
        lambda text: named.guess(text, reads.encode(text).embedding if head.depth else look(text)),
    )
    return float(found["accuracy"])


def figures(prompts: Sequence[Prompt], guess: Callable[[str], TaskGuess]) -> dict[str, Any]:
    """Return what `guess` is worth on `prompts`."""
    guesses = [guess(each.text) for each in prompts]
    named = [each.task for each in guesses]
    right = np.array([a == b.task for a, b in zip(named, prompts, strict=True)])
    silent = np.array([not each for each in named])
    best = np.array([TASKS[int(np.argmax(each.probabilities))] for each in guesses])
    is_best = best == np.array([each.task for each in prompts])
    return {
        "prompts": len(prompts),
        "accuracy": float(right.mean()),
        "abstained": float(silent.mean()),
        "wrong": float((~right & ~silent).mean()),
        "right_when_named": float(right[~silent].mean()) if (~silent).any() else None,
        "calibration_error": calibration_error([each.confidence for each in guesses], is_best),
        "confusion": confusion(prompts, named),
    }


def calibration_error(confidence: Sequence[float], right: Any) -> float:
    """Return the expected calibration error in BINS bins of equal width.

    Naeini et al., AAAI 2015: the mean gap of confidence and accuracy, by bin.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [
        (places == each).mean() * abs(sure[places == each].mean() - right[places == each].mean())
        for each in np.unique(places)
    ]
    return float(sum(gaps))


def confusion(prompts: Sequence[Prompt], named: Sequence[str]) -> list[list[int]]:
    """Return counts [task meant, task named]; the last column counts abstentions."""
    counts = np.zeros((len(TASKS), len(TASKS) + 1), dtype=int)
    for prompt, name in zip(prompts, named, strict=True):
        counts[TASKS.index(prompt.task), TASKS.index(name) if name else len(TASKS)] += 1
    return counts.tolist()
