"""What the vector's features tell of the task besides the task's own probabilities.

A logistic regression on groups of features, standardised, learns from the training part;
`alone` has one group, `without` all others. Accuracy is that on all held-out English
prompts. Features that come from a session, a deadline or a voice are constant here, and
what they are worth is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.features import corpus, learn
from benchmarks.features.corpus import Prompt
from services.feature import lexical
from services.feature.encoder import Encoder
from services.feature.extract import Reading, assemble
from services.feature.house import classifier
from thermesh.features import INDEX, TASKS

Floats = NDArray[Any]
GROUPS: dict[str, tuple[str, ...]] = {
    "encoder": ("semantic_complexity", "attention_entropy", "vocabulary_rarity"),
    "size": ("length", "sentence_count", "sentence_length"),
    "structure": ("clause_density", "type_token_ratio", "terminology_density"),
    "marks": ("digit_ratio", "code_ratio", "question"),
    "task": tuple(f"task_{task}" for task in TASKS),
}


def measured(encoder: Encoder) -> dict[str, Any]:
    """Return the accuracy that each group brings."""
    taught, kept = corpus.training(), corpus.held_out() + corpus.later()
    x, y = vectors(encoder, taught), labels(taught)
    held_out = vectors(encoder, kept), labels(kept)
    untaught = [name for name in GROUPS if name != "task"]
    found = {name: {"alone": accuracy(x, y, held_out, [name])} for name in GROUPS}
    for name in untaught:
        others = [each for each in untaught if each != name]
        found[name]["without"] = accuracy(x, y, held_out, others)
    return {
        "prompts": len(kept),
        "groups": found,
        "all_but_task": accuracy(x, y, held_out, untaught),
        "majority": float(np.bincount(held_out[1]).max() / len(kept)),
    }


def vectors(encoder: Encoder, prompts: Sequence[Prompt]) -> Floats:
    """Return the feature vectors of first turns: float64 [prompts, features]."""
    named = classifier(encoder)
    return np.array([vector(encoder, named, each.text) for each in prompts])


def labels(prompts: Sequence[Prompt]) -> Floats:
    """Return the place of each prompt's task in TASKS."""
    return np.array([TASKS.index(each.task) for each in prompts])


def accuracy(x: Floats, y: Floats, held_out: tuple[Floats, Floats], groups: list[str]) -> float:
    """Return the share of held-out tasks that `groups` of features tell."""
    columns = [INDEX[name] for group in groups for name in GROUPS[group]]
    mean, scale = x[:, columns].mean(axis=0), x[:, columns].std(axis=0) + 1e-6
    weight, bias = learn.fitted((x[:, columns] - mean) / scale, y, len(TASKS))
    logits = (held_out[0][:, columns] - mean) / scale @ weight.T + bias
    return float((logits.argmax(axis=1) == held_out[1]).mean())


def vector(encoder: Encoder, named: Any, text: str) -> tuple[float, ...]:
    """Return the values of a typed first turn, classified by `named`."""
    encoding = encoder.encode(text)
    return assemble(
        Reading(text),
        lexical=lexical.read(text),
        guess=named.guess(text, encoding.embedding),
        encoding=encoding,
        session=None,
        now_unix_ms=0,
    ).values
