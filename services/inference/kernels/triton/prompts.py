"""What a step needs beside the layers: rows of the embedding, tiles of prompts, gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from services.inference.kernels.sparsity import reading
from services.inference.kernels.triton.cache import PAGE
from services.inference.kernels.triton.graphs import Next
from services.inference.kernels.triton.matrix import Matrix, dequantise
from services.inference.kernels.triton.places import QUERIES, Places, Tiles

if TYPE_CHECKING:
    from services.inference.kernels import Span


@dataclass(frozen=True)
class Prompt:
    """The new tokens of several sequences, laid end to end on the device."""

    tokens: torch.Tensor
    places: Places
    tiles: Tiles


def prompt_of(spans: Sequence[Span], tokens: list[int], device: torch.device) -> Prompt:
    """Return the rows of `spans`, cut into tiles; `tokens` are those of the whole step."""
    ids: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    tiles: list[tuple[int, int]] = []
    width = max(-(-span.context_length // PAGE) for span in spans)
    tables = torch.zeros(len(spans), width, dtype=torch.int32)
    for index, span in enumerate(spans):
        tiles += [
            (len(ids) + start, min(QUERIES, span.count - start))
            for start in range(0, span.count, QUERIES)
        ]
        ids += tokens[span.start : span.start + span.count]
        positions += range(span.context_length - span.count, span.context_length)
        sequences += [index] * span.count
        pages = torch.tensor(span.page_table[: -(-span.context_length // PAGE)])
        tables[index, : len(pages)] = pages
    parts = [
        torch.tensor(part, dtype=torch.int32).to(device)
        for part in (ids, positions, sequences, *zip(*tiles, strict=True))
    ]
    places = Places(parts[1], parts[2], tables.to(device))
    return Prompt(parts[0], places, Tiles(parts[3], parts[4]))


def grouped(spans: Sequence[Span]) -> list[list[int]]:
    """Return which spans go together: those that decode, prompts, and likewise those
    whose queries choose what they read, after `dense_layers` each.
    """
    found: dict[tuple[bool, int | None], list[int]] = {}
    for index, span in enumerate(spans):
        found.setdefault((span.count > 1, _dense_layers(span)), []).append(index)
    return list(found.values())


def chooses(span: Span) -> bool:
    """Tell whether a query of a span chooses what it reads."""
    found = span.sparsity
    return found is not None and reading(found, span.context_length - 1) is not None


def _dense_layers(span: Span) -> int | None:
    """Return in how many layers no query of a span chooses, None where none does anywhere."""
    return span.sparsity.dense_layers if span.sparsity and chooses(span) else None


def wanted(span: Span) -> int:
    """Return how many of a span's last tokens logits are wanted after."""
    return getattr(span, "logits", 1)


def ends_of(spans: Sequence[Span], device: torch.device) -> torch.Tensor:
    """Return the rows that logits are wanted after, of spans laid end to end."""
    rows: list[int] = []
    end = 0
    for span in spans:
        end += span.count
        rows += range(end - wanted(span), end)
    return torch.tensor(rows, device=device)


def next_of(span: Span, tokens: list[int]) -> Next:
    """Return a span of one token as what it decodes."""
    position = span.context_length - 1
    return Next(tokens[span.start], position, span.page_table, span.sparsity)


def rows_of(matrix: Matrix, tokens: torch.Tensor) -> torch.Tensor:
    """Return rows of an embedding as float32: [tokens, hidden]."""
    picked = replace(
        matrix,
        codes=_rows(matrix.codes, tokens),
        scales=None if matrix.scales is None else _rows(matrix.scales, tokens),
        minimums=None if matrix.minimums is None else _rows(matrix.minimums, tokens),
    )
    return dequantise(picked)


def finished(
    product: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    *,
    is_gated: bool,
) -> torch.Tensor:
    """Do to a plain product what `linear` does after its own."""
    if bias is not None:
        product = product + bias
    if is_gated:
        gate, up = product.chunk(2, dim=-1)
        product = F.silu(gate) * up
    return product if residual is None else product + residual


def _rows(part: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Pick rows; by bytes where torch cannot index a type."""
    if part.dtype == torch.float8_e4m3fn:
        return part.view(torch.uint8).index_select(0, tokens).view(part.dtype)
    return part.index_select(0, tokens)
