"""Trains the head of the task classifier from the training part of the corpus alone.

Multinomial logistic regression with an L2 penalty, every class of equal weight, by L-BFGS.
Folds are split by template. Penalty, scales and temperature are those that do best, fold
for fold, on prompts that stand alone: those from templates have cousins in other folds.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Trained:
    """The head with its temperature divided in, and how the folds did without it."""

    head: Head
    temperature: float
    accuracy: float


def trained(encoder: Encoder, prompts: list[Prompt]) -> Trained:
    """Return the head for `encoder` that `prompts` teach."""
    x = np.stack(
        [inputs(encoder.encode(each.text).embedding, log_odds(each.text)) for each in prompts]
    )
    y = np.array([CLASSES.index(each.task) for each in prompts])
    logits = out_of_fold(x, y, folds(prompts))
    alone = np.array([each.stands_alone for each in prompts])
    temperature = min(TEMPERATURES, key=lambda value: surprise(logits[alone] / value, y[alone]))
    weight, bias = fitted(x, y)
    head = Head(
        encoder.name,
        (weight / temperature).astype(np.float32),
        (bias / temperature).astype(np.float32),
    )
    return Trained(head, float(temperature), float((logits.argmax(axis=1) == y)[alone].mean()))


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
