"""Where the rows of a step belong, as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Places:
    """For each row of a step its position and its sequence.

    A row whose sequence is -1 is padding: it reads and writes no cache.
    """

    positions: torch.Tensor
    """[rows] int32."""
    sequences: torch.Tensor
    """[rows] int32: the row of `tables`."""
    tables: torch.Tensor
    """[sequences, most pages] int32: pages in order."""


@dataclass(frozen=True)
class Tiles:
    """Runs of up to `QUERIES` consecutive rows of one sequence, for prefill attention."""

    rows: torch.Tensor
    """[tiles] int32: the first row."""
    counts: torch.Tensor
    """[tiles] int32: how many rows."""


QUERIES = 64
"""Rows of a full tile."""


@dataclass(frozen=True)
class Heads:
    """What rotating needs to know of the heads of a layer."""

    heads: int
    kv_heads: int
    head_size: int
    inverse_frequencies: torch.Tensor
    """[head_size / 2] float32, radians per position."""
    query_norm: torch.Tensor | None = None
    """[head_size] float32, where each head is normalised alone (Qwen3)."""
    key_norm: torch.Tensor | None = None
    epsilon: float = 1e-6
