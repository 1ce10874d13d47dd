"""How much the output minds a change of each weight: the diagonal of the Fisher information.

For a small change of the weights, the mean KL divergence of the next token is
half the change's square in the metric of the Fisher information (Amari, 1998,
https://doi.org/10.1162/089976698300017746), whose diagonal is the mean of the squared gradient
of log p(token) with the token drawn from p itself. One backward pass gives, for
a matrix with inputs x and output gradients g, the squares g_i^2 x_j^2 of each
token. Kept are their sums over rows and over columns, and the matrix is taken
to be the product of both: two vectors instead of a second model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from services.inference.models.config import ModelConfig
from services.inference.models.weights import Weights
from services.inference.quantise import forward

EMBEDDING = "token_embd.weight"
_TEXTS_AT_ONCE = 2


@dataclass(frozen=True)
class Curvature:
    """The diagonal of one matrix, a sum of products rows[k, i] * columns[k, j] per token."""

    rows: npt.NDArray[np.float32]
    """[terms, outputs]."""
    columns: npt.NDArray[np.float32]
    """[terms, inputs]."""

    @property
    def importance(self) -> npt.NDArray[np.float32]:
        """How much each column counts within a row of average weight: [inputs]."""
        importance: npt.NDArray[np.float32] = self.rows.mean(axis=1) @ self.columns
        return importance

    def cost(self, change: torch.Tensor, row_step: int = 1) -> float:
        """Return the KL divergence in nats a token that `change` should bring about.

        `change` is [outputs / row_step, inputs]: each `row_step`-th row,
        standing for all.
        """
        rows = torch.from_numpy(self.rows[:, ::row_step].copy())
        by_row = change.square() @ torch.from_numpy(self.columns).t()
        # The rows left out are as far off as those seen, and count as they count.
        share = torch.from_numpy(self.rows.sum(axis=1)) / rows.sum(dim=1).clamp(min=1e-30)
        return 0.5 * float(((rows.t() * by_row).sum(0) * share).sum())


def measured(
    config: ModelConfig,
    weights: Weights,
    texts: torch.Tensor,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Curvature]:
    """Return the curvature of each matrix on `texts` ([texts, tokens] int64)."""
    sums = _Sums(config)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        sums.add(weights, texts[start : start + _TEXTS_AT_ONCE], generator)
        progress(min(start + _TEXTS_AT_ONCE, len(texts)), len(texts))
    return sums.curvature(texts.numel())


class _Sums:
    """Sums over tokens, in float64: a text adds a little to much."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._rows: dict[str, torch.Tensor] = {}
        self._columns: dict[str, torch.Tensor] = {}
        self._mean_token: torch.Tensor | float = 0.0
        self._start: torch.Tensor | float = 0.0

    def add(self, weights: Weights, texts: torch.Tensor, generator: torch.Generator) -> None:
        """Run `texts` forward, draw a next token at each place, and run backward."""
        seen: list[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]] = []

        def observe(names: tuple[str, ...], given: torch.Tensor, made: torch.Tensor) -> None:
            made.retain_grad()
            seen.append((names, given.detach(), made))

        start = forward.embedded(weights, texts).requires_grad_()
        state = forward.hidden(self._config, weights, start, observe)
        gradient = self._head(weights, state.detach().flatten(0, 1), generator)
        torch.autograd.backward(state, gradient.view_as(state))
        for names, given, made in seen:
            assert made.grad is not None
            for name, share in forward.shares(names, self._config):
                squares = made.grad[..., share].flatten(0, 1).square()
                self._add(name, squares, given.flatten(0, 1))
        assert start.grad is not None
        self._start = self._start + start.grad.flatten(0, 1).double().square().sum(0)

    def _head(
        self, weights: Weights, state: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Count the head and return the gradient of log p(drawn tokens) by `state`."""
        chances = torch.softmax(state @ weights.head, -1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        name = EMBEDDING if self._config.tied_embeddings else "output.weight"
        # The head's own squares need no drawing: their mean is p (1 - p).
        self._add(name, chances * (1 - chances), state)
        self._mean_token = self._mean_token + chances.double().sum(0)
        by_logit = chances.neg_()
        by_logit.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=by_logit.dtype))
        return by_logit @ weights.head.t()

    def _add(self, name: str, squares: torch.Tensor, given: torch.Tensor) -> None:
        rows = squares.double().sum(0)
        columns = squares.sum(1).double() @ given.double().square()
        self._rows[name] = self._rows.get(name, 0.0) + rows
        self._columns[name] = self._columns.get(name, 0.0) + columns

    def curvature(self, tokens: int) -> dict[str, Curvature]:
        """Return the means over `tokens`."""
        terms = {
            name: [(rows / tokens, self._columns[name] / max(float(rows.sum()), math.ulp(0.0)))]
            for name, rows in self._rows.items()
        }
        # A row of the embedding counts as often as its token is likely to come.
        entry = (torch.as_tensor(self._mean_token) / tokens, torch.as_tensor(self._start) / tokens)
        terms.setdefault(EMBEDDING, []).append(entry)
        return {
            name: Curvature(*(_stacked(vectors) for vectors in zip(*pairs, strict=True)))
            for name, pairs in terms.items()
        }


def _stacked(vectors: Sequence[torch.Tensor]) -> npt.NDArray[np.float32]:
    return torch.stack(list(vectors)).float().numpy()
