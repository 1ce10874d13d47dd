"""Memory of the C++ kernels: pieces side by side, each for itself."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.kernels.cpu import memory, native

STATUS = native.status()
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


@pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_THREAD"), reason="no faults of a thread told")
@given(rows=st.integers(1, 5), columns=st.integers(1, 100))
def test_lines_begin_with_one(rows: int, columns: int) -> None:
    """An array that is written line by line begins with one, and is as large as was asked."""
    array = memory.lines(rows, columns)

    assert array.shape == (rows, columns)
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous


def test_memory_that_was_taken_is_there_and_says_what_it_said() -> None:
    """Who writes to it waits for none of its pages, and what was written before stays."""
    area = memory.anonymous(256 * mmap.PAGESIZE + 1, in_huge_pages=False)
    area[7], area[-1] = 7, 9
    native.library().thermesh_take(area.ctypes.data, area.nbytes)
    assert (area[7], area[-1], int(area.sum())) == (7, 9, 16)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    area[:] = 1
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before < 128
