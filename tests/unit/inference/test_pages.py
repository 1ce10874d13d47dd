"""The page allocator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.pages import PageAllocator


@given(st.lists(st.integers(0, 5) | st.sampled_from([-1, -2, -3]), max_size=60))
def test_no_page_is_owned_twice_or_lost(steps: list[int]) -> None:
    """Over any history each page has one owner or is free, and all are accounted for."""
    allocator = PageAllocator(12)
    owners: list[list[int]] = []
    for step in steps:
        if step >= 0 and allocator.can_allocate(step):
            owners.append(allocator.allocate(step))
        elif step < 0 and owners:
            allocator.free(owners.pop(step % len(owners)))
        owned = [page for owner in owners for page in owner]
        assert len(owned) == len(set(owned)) == allocator.used_count
        assert set(owned) <= set(range(12))
        assert allocator.used_count + allocator.free_count == 12


def test_the_page_freed_last_is_used_first() -> None:
    """Memory that was never touched stays untouched while other pages are free."""
    allocator = PageAllocator(100)
    assert allocator.allocate(3) == [0, 1, 2]
    allocator.free([0, 1, 2])
    assert allocator.allocate(2) == [0, 1]


def test_misuse_is_noticed() -> None:
    """Freeing twice and asking for too much are bugs that do not pass."""
    allocator = PageAllocator(2)
    pages = allocator.allocate(2)
    with pytest.raises(AssertionError):
        allocator.allocate(1)
    allocator.free(pages)
    with pytest.raises(AssertionError):
        allocator.free(pages)
