"""Memory of the C++ kernels: pieces side by side, each for itself."""

from __future__ import annotations

import ctypes
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.kernels.cpu import memory

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=30)


@settings(deadline=None, max_examples=30)
@given(sizes=SIZES, slab=st.integers(64, 8192))
def test_pieces_are_zero_aligned_and_apart(sizes: list[int], slab: int) -> None:
    """Whatever the sizes, no piece touches another, and each begins a cache line."""
    arena = memory.Arena(slab)
    pieces = sorted((arena.take(size), size) for size in sizes)
    for (start, size), (following, _) in itertools.pairwise(pieces):
        assert start + size <= following
    for start, size in pieces:
        assert start % 64 == 0
        assert not any(ctypes.string_at(start, size))
        ctypes.memset(start, 255, size)
    assert sum(sizes) <= arena.taken_bytes < sum(sizes) + 64 * len(sizes)
