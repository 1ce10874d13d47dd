"""Learned gates: which pages a query should read, scored better than by means alone.

Like `sparsity`, a gate scores half pages, and the query heads that share keys choose
together. For each layer and key-value head it has a matrix that turns the query
before it meets the mean key, and a weight for each channel's spread of keys, which
means say nothing of:

    score = (turn @ q) . mean + (weight * |q|) . spread

With the identity and weights of 0 that is the score of means, where training begins;
the second term alone is the excess of Quest's bound (Tang et al., 2024,
https://arxiv.org/abs/2406.10774). Gates are taught by dense attention
(`distil.gates`), as in SeerAttention (Gao et al., 2024,
https://arxiv.org/abs/2410.13276).
"""

from __future__ import annotations

import math
import pathlib
from dataclasses import dataclass

import numpy as np
import torch

from services.inference.kernels.sparsity import Sparsity, reading
from thermesh.errors import InvalidArgument

_PAGE_SIZE = 16
_NAMES = ("turns", "weights")
_NOTHING = -1e9


@dataclass(frozen=True)
class Summary:
    """Of the half pages of one layer: [pages, 2, kv_heads, head_size] each."""

    means: torch.Tensor
    spreads: torch.Tensor
    """Half the range of each channel."""


@dataclass(frozen=True)
class Gates:
    """Of all layers; float32."""

    turns: torch.Tensor
    """[layers, kv_heads, head_size, head_size]."""
    weights: torch.Tensor
    """[layers, kv_heads, head_size]."""

    @classmethod
    def of_means(cls, layers: int, kv_heads: int, head_size: int) -> Gates:
        """Return gates that score by means alone."""
        turns = torch.eye(head_size).expand(layers, kv_heads, -1, -1).contiguous()
        return cls(turns, torch.zeros(layers, kv_heads, head_size))

    def save(self, path: pathlib.Path) -> None:
        """Write the gates; the file appears when it is whole."""
        partial = path.with_name(f".{path.name}")
        with partial.open("wb") as file:
            np.savez(file, turns=self.turns.numpy(), weights=self.weights.numpy())
        partial.replace(path)


def read(path: pathlib.Path, layers: int, kv_heads: int, head_size: int) -> Gates:
    """Return the gates of a file; raise InvalidArgument where they are not of this network."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = [torch.from_numpy(stored[name].astype(np.float32)) for name in _NAMES]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidArgument(f"{path.name} holds no gates", field="gates") from error
    shape = (layers, kv_heads, head_size)
    if tuple(found[0].shape) != (*shape, head_size) or tuple(found[1].shape) != shape:
        raise InvalidArgument(f"{path.name} holds gates of another network", field="gates")
    return Gates(*found)


def summarised(keys: torch.Tensor) -> Summary:
    """Return the summary of the full pages of [tokens, kv_heads, head_size]."""
    pages = keys.shape[0] // _PAGE_SIZE
    halves = keys[: pages * _PAGE_SIZE].reshape(pages, 2, _PAGE_SIZE // 2, *keys.shape[1:])
    return Summary(halves.mean(2), (halves.amax(2) - halves.amin(2)) / 2)


def aimed(gates: Gates, layer: int, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what means and spreads are multiplied with: [queries, kv_heads, group, size] each.

    `queries` is [queries, heads, head_size].
    """
    turn, weight = gates.turns[layer], gates.weights[layer]
    size = queries.shape[-1]
    grouped = queries.reshape(len(queries), turn.shape[0], -1, size).float() * size**-0.5
    turned = torch.einsum("hcd,qhgd->qhgc", turn, grouped)
    return turned, grouped.abs() * weight[None, :, None]


def gated_scores(turned: torch.Tensor, spreading: torch.Tensor, summary: Summary) -> torch.Tensor:
    """Return the scores of half pages: [queries, kv_heads, group, pages, 2] float32."""
    scores = torch.einsum("qhgc,pthc->qhgpt", turned, summary.means.float())
    return scores + torch.einsum("qhgc,pthc->qhgpt", spreading, summary.spreads.float())


def log_shares(scores: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """Return the log of what pages should have of the attention: [queries, kv_heads, pages].

    `is_candidate` is [queries, pages] bool; others have next to nothing. Not -inf: its
    gradient is no number.
    """
    seen = scores.masked_fill(~is_candidate[:, None, None, :, None], _NOTHING)
    by_head = seen.flatten(-2).log_softmax(-1).view(scores.shape)
    shares: torch.Tensor = by_head.logsumexp(-1).logsumexp(2) - math.log(scores.shape[2])
    return shares


def pages_read(
    sparsity: Sparsity,
    gates: Gates,
    queries: torch.Tensor,
    keys: torch.Tensor,
    positions: range,
    *,
    layer: int,
) -> torch.Tensor:
    """Return which pages each query reads, as `sparsity.pages_read`, chosen by a gate."""
    summary = summarised(keys)
    pages = -(-keys.shape[0] // _PAGE_SIZE)
    read_all = torch.ones(len(queries), keys.shape[1], pages, dtype=torch.bool)
    turned, spreading = aimed(gates, layer, queries)
    for index, position in enumerate(positions):
        found = reading(sparsity, position)
        if found is None:
            continue
        row = slice(index, index + 1)
        is_candidate = torch.zeros(1, len(summary.means), dtype=torch.bool)
        is_candidate[:, 1 : found.candidates] = True
        scores = gated_scores(turned[row], spreading[row], summary)
        shares = log_shares(scores, is_candidate)[0, :, 1 : found.candidates]
        order = shares.sort(dim=1, descending=True, stable=True).indices[:, found.chosen :] + 1
        read_all[index].scatter_(1, order, value=False)
    return read_all
