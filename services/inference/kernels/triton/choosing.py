"""Which pages the queries of a step read, as `kernels.sparsity` means it, on a device.

Sizes are fixed by a shape, lists are padded with -1, and nothing is read back, so that
choosing is part of a captured graph. What depends on positions alone (`reading`) the
host knows beforehand. The means of pages are kept beside the keys (`summarise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from services.inference.kernels.sparsity import Reading, Sparsity, reading
from services.inference.kernels.triton.cache import PAGE, LayerCache
from services.inference.kernels.triton.places import Places

if TYPE_CHECKING:
    from services.inference.kernels import Span

EVERYTHING = Reading(0, 0)
"""What a row reads that does not choose: all pages from page 0 on."""


@dataclass(frozen=True)
class Choice:
    """What each row of a step may choose: rows with no candidates read everything."""

    candidates: torch.Tensor
    """[rows] int32: pages from 1 up to here are chosen among."""
    chosen: torch.Tensor
    """[rows] int32: how many of them are read."""
    width: int
    """Pages of the longest list; no row reads more."""
    dense_layers: int
    """First layers, in which no row chooses."""


def reading_of(sparsity: Sparsity | None, position: int) -> Reading:
    """Return what the query at `position` reads."""
    found = None if sparsity is None else reading(sparsity, position)
    return found or EVERYTHING


def pages_of(found: Reading, position: int) -> int:
    """Return how many pages the query at `position` reads."""
    pages = position // PAGE + 1
    return pages if not found.candidates else 1 + found.chosen + pages - found.candidates


def choice_of(spans: Sequence[Span], device: torch.device) -> Choice:
    """Return what the rows of `spans`, laid end to end, may choose."""
    positions = [
        (span.sparsity, position)
        for span in spans
        for position in range(span.context_length - span.count, span.context_length)
    ]
    found = [reading_of(*one) for one in positions]
    width = max(pages_of(one, at) for one, (_, at) in zip(found, positions, strict=True))
    numbers = torch.tensor([(one.candidates, one.chosen) for one in found], dtype=torch.int32)
    candidates, chosen = numbers.to(device).unbind(1)
    layers = max(span.sparsity.dense_layers for span in spans if span.sparsity is not None)
    return Choice(candidates.contiguous(), chosen.contiguous(), width, layers)


def selected(
    operations: ModuleType,
    queries: torch.Tensor,
    layer: LayerCache,
    places: Places,
    choice: Choice,
) -> torch.Tensor | None:
    """Return which pages each row reads in a layer, None for all.

    `queries` is [rows, heads, head_size]; the result [rows, kv_heads, width] int32 has
    places in the sequence, ascending, -1 being none.
    """
    if layer.index < choice.dense_layers:
        return None
    scores = operations.mean_scores(queries, layer, places, choice.candidates)
    shares = scores.softmax(-1).unflatten(-1, (-1, 2)).sum((2, -1))
    return listed(shares, places.positions, choice)


def listed(shares: torch.Tensor, positions: torch.Tensor, choice: Choice) -> torch.Tensor:
    """Return the lists of pages with the largest of `shares` ([rows, kv_heads, pages])."""
    pages = torch.arange(shares.shape[-1], device=shares.device, dtype=torch.int32)
    candidates = choice.candidates[:, None]
    is_between = (pages >= 1) & (pages < candidates)
    is_there = pages <= (positions // PAGE)[:, None]
    best, order = shares.masked_fill(~is_between[:, None], -1.0).topk(min(choice.width, len(pages)))
    rank = torch.arange(order.shape[-1], device=shares.device)
    is_taken = (best >= 0) & (rank < choice.chosen[:, None, None])
    is_read = (is_there & ~is_between)[:, None].expand(shares.shape).contiguous()
    is_read.scatter_(-1, order, is_taken | is_read.gather(-1, order))
    return _compacted(is_read, pages, choice.width)


def _compacted(is_read: torch.Tensor, pages: torch.Tensor, width: int) -> torch.Tensor:
    """Return the numbers of the pages that are read, [..., width], then -1."""
    place = torch.where(is_read, is_read.cumsum(-1) - 1, width).clamp(max=width)
    shape = (*is_read.shape[:-1], width + 1)
    lists = torch.full(shape, -1, dtype=torch.int32, device=is_read.device)
    return lists.scatter_(-1, place, pages.expand(is_read.shape))[..., :width].contiguous()
