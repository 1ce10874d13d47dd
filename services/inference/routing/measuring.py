"""How far a model's answers move when one head reads a window of a long text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from services.inference.kernels import (
    PAGE_SIZE,
    CpuNetwork,
    HeadWindows,
    Span,
    Sparsity,
    StepBatch,
)
from services.inference.models.config import ModelConfig

CHUNK = 512
SIZES = (2048, 1024, 512, 256, 128)
"""Windows to try, in tokens; smaller ones only while the last was no loss."""
HOPELESS = 1e-3
"""Divergence from which no smaller window is tried."""


class Text:
    """The end of a text, answered again and again behind the same context.

    `token_ids` is [tokens]; answers are those after each of the `last` tokens.
    """

    def __init__(self, network: CpuNetwork, token_ids: npt.NDArray[np.int64], last: int) -> None:
        self._network = network
        self._ids = token_ids
        self._last = last
        self._table = tuple(range(-(-len(token_ids) // PAGE_SIZE)))
        self._cache = network.new_cache(len(self._table))
        for start in range(0, len(token_ids) - last, CHUNK):
            self._step(start, min(start + CHUNK, len(token_ids) - last), 1, None)
        self._expected = self.answers(None)

    def answers(self, windows: HeadWindows | None) -> torch.Tensor:
        """Return log-probabilities [last, vocabulary] with windows for the last queries."""
        first = len(self._ids) - self._last
        sparsity = None
        if windows is not None:
            sparsity = Sparsity(first, 0, 1 << 30, head_windows=windows)
        logits = self._step(first, len(self._ids), self._last, sparsity)
        return logits.log_softmax(-1)

    def divergence(self, windows: HeadWindows) -> tuple[float, float]:
        """Return how far answers are from those of reading everything.

        Mean KL divergence in nats, and how often the likeliest token is the same.
        """
        actual = self.answers(windows)
        nats = (self._expected.exp() * (self._expected - actual)).sum(-1).mean().item()
        same = self._expected.argmax(-1) == actual.argmax(-1)
        return max(nats, 0.0), same.float().mean().item()

    def _step(self, start: int, stop: int, logits: int, sparsity: Sparsity | None) -> torch.Tensor:
        span = Span(0, stop - start, stop, self._table, logits, sparsity)
        batch = StepBatch(self._ids[start:stop], np.arange(start, stop), (span,))
        return torch.from_numpy(self._network.step(batch, self._cache))


def divergences(
    texts: Sequence[Text],
    config: ModelConfig,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> npt.NDArray[np.float64]:
    """Return [layers * kv_heads, sizes] nats: the worst text's, infinite where not tried."""
    heads = config.layers * config.kv_heads
    found = np.full((heads, len(SIZES)), np.inf)
    for head in range(heads):
        for place, size in enumerate(SIZES):
            windows = np.zeros(heads, dtype=int)
            windows[head] = size
            table = as_table(windows, config)
            found[head, place] = _worst(texts, table)
            if found[head, place] > HOPELESS:
                break
        progress(head + 1, heads)
    return found


def _worst(texts: Sequence[Text], windows: HeadWindows) -> float:
    """Return the greatest divergence of the texts, or one beyond hope."""
    worst = 0.0
    for text in texts:
        worst = max(worst, text.divergence(windows)[0])
        if worst > HOPELESS:
            break
    return worst


def as_table(windows: npt.NDArray[np.int_], config: ModelConfig) -> HeadWindows:
    """Return [layers * kv_heads] windows as a table."""
    return tuple(map(tuple, windows.reshape(config.layers, config.kv_heads).tolist()))
