"""Where the programs of a decode launch leave their parts until the last one merges them."""

from __future__ import annotations

import torch

from services.inference.kernels.triton.cache import PAGE

RANGE = 512
"""Tokens of one decode program. Half as many would keep a device busier with one
short sequence, and merge twice as many parts of a long one."""


class DecodeMemory:
    """Memory of one shape of launch, which a captured graph keeps. Counters stay zero."""

    def __init__(
        self, rows: int, heads: int, kv_heads: int, size: int, pages: int, device: torch.device
    ) -> None:
        lanes, places = rows * kv_heads, splits(pages) * padded(heads // kv_heads)
        self.parts = torch.empty(lanes, places, size, dtype=torch.float32, device=device)
        self.bests = torch.empty(lanes, places, dtype=torch.float32, device=device)
        self.weights = torch.empty(lanes, places, dtype=torch.float32, device=device)
        self.arrived = torch.zeros(lanes, dtype=torch.int32, device=device)


def splits(pages: int) -> int:
    """Return how many programs share the longest sequence of `pages` pages."""
    return -(-pages * PAGE // RANGE)


def padded(queries: int) -> int:
    """Return the rows of a product on matrix units that takes so many queries."""
    return max(1 << (queries - 1).bit_length(), 16)
