"""Trains the head of the task classifier from the training part of the corpus alone.

Multinomial logistic regression with an L2 penalty, every class of equal weight, by L-BFGS.
Folds are split by template. Penalty, scales and temperature are those that do best, fold
for fold, on prompts that stand alone: those from templates have cousins in other folds.

How many of the encoder's layers are read is chosen the same way: the fewest whose accuracy
lies within one standard error of the best (Breiman et al., Classification and Regression
Trees, 1984, section 3.4.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.features.corpus import SEED, Prompt
from services.feature.cues import log_odds
from services.feature.encoder import Encoder
from services.feature.head import Head, inputs
from thermesh.features import TASKS

Floats = NDArray[Any]
CLASSES = (*TASKS, "")
PENALTY = 1e-3
FOLDS = 5
TEMPERATURES = np.linspace(0.2, 3.0, 57)
SURE = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Trained:
    """The head with its temperature divided in, and how the folds did without it on the
    `prompts` that stand alone. `sure`: by probability, the share named with so much and more,
    and how much of that is right.
    """

    head: Head
    temperature: float
    accuracy: float
    prompts: int
    sure: dict[float, tuple[float, float]]


def by_depth(encoder: Encoder, prompts: list[Prompt]) -> list[Trained]:
    """Return what `prompts` teach on the first layer of `encoder`, the first two, and so on."""
    depths = range(1, encoder.depth + 1)
    return [trained(encoder.truncated(depth), prompts) for depth in depths]


def chosen(found: Sequence[Trained]) -> Trained:
    """Return the shallowest of `found` within a standard error of the most accurate."""
    best = max(found, key=lambda each: each.accuracy)
    error = math.sqrt(best.accuracy * (1.0 - best.accuracy) / best.prompts)
    return next(each for each in found if each.accuracy >= best.accuracy - error)


def trained(encoder: Encoder, prompts: list[Prompt]) -> Trained:
    """Return the head for `encoder` that `prompts` teach."""
    return taught(encoder.name, encoder.depth, lambda text: encoder.encode(text).embedding, prompts)


def glancing(encoder: Encoder, prompts: list[Prompt]) -> Trained:
    """Return the head for the token vectors of `encoder`."""
    return taught(encoder.name, 0, encoder.glance, prompts)


def taught(name: str, depth: int, look: Callable[[str], Floats], prompts: list[Prompt]) -> Trained:
    """Return the head that `prompts` teach on what `look` says of a text."""
    x = np.stack([inputs(look(each.text), log_odds(each.text)) for each in prompts])
    y = np.array([CLASSES.index(each.task) for each in prompts])
    logits = out_of_fold(x, y, folds(prompts))
    alone = np.array([each.stands_alone for each in prompts])
    temperature = min(TEMPERATURES, key=lambda value: surprise(logits[alone] / value, y[alone]))
    weight, bias = fitted(x, y)
    head = Head(
        name,
        depth,
        (weight / temperature).astype(np.float32),
        (bias / temperature).astype(np.float32),
    )
    right = (logits.argmax(axis=1) == y)[alone]
    chances = torch.from_numpy(logits[alone] / temperature).softmax(dim=1).numpy()
    sure = {
        share: (float(known.mean()), float(right[known].mean()))
        for share in SURE
        if (known := chances.max(axis=1) >= share).any()
    }
    return Trained(head, float(temperature), float(right.mean()), len(right), sure)


def folds(prompts: list[Prompt]) -> Floats:
    """Return the fold of each prompt; one template is in one fold."""
    names = list(dict.fromkeys(each.template for each in prompts))
    order = np.random.default_rng(SEED).permutation(len(names)) % FOLDS
    return np.array([order[names.index(each.template)] for each in prompts])


def out_of_fold(x: Floats, y: Floats, fold: Floats) -> Floats:
    """Return the logits of each row by a model that did not see its fold."""
    logits = np.zeros((len(y), len(CLASSES)))
    for each in range(FOLDS):
        weight, bias = fitted(x[fold != each], y[fold != each])
        logits[fold == each] = x[fold == each] @ weight.T + bias
    return logits


def surprise(logits: Floats, y: Floats) -> float:
    """Return the mean negative log likelihood, nats."""
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(y)))


def fitted(x: Floats, y: Floats, classes: int = len(CLASSES)) -> tuple[Floats, Floats]:
    """Return weight [classes, inputs] and bias [classes]."""
    rows, labels = torch.from_numpy(x).double(), torch.from_numpy(y)
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    balance = 1.0 / torch.bincount(labels, minlength=classes).double()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        missed = torch.nn.functional.cross_entropy(rows @ weight.T + bias, labels, weight=balance)
        total = missed + PENALTY * (weight**2).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()
