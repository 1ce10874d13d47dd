"""The page allocator."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.inference.scheduling.pages import PageAllocator

TOTAL = 12


class Histories(RuleBasedStateMachine):
    """Owners take, share, keep and give back pages in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = PageAllocator(TOTAL)
        self.owners: list[list[int]] = []
        self.serial = 0

    @rule(count=st.integers(0, 5))
    def allocate(self, count: int) -> None:
        """New pages are nobody's, and idle ones are taken only for want of others."""
        if self.pages.can_allocate(count):
            idle, unused = self.pages.cached_count, self.pages.free_count
            evicted = self.pages.evicted_count
            new = self.pages.allocate(count)
            assert not set(new) & {page for owner in self.owners for page in owner}
            assert self.pages.evicted_count - evicted == max(0, count - (unused - idle))
            self.owners.append(new)

    @precondition(lambda self: any(self.owners))
    @rule(choice=st.integers(0, 99))
    def keep(self, choice: int) -> None:
        """A page is kept under a new key."""
        owned = [page for owner in self.owners for page in owner]
        self.serial += 1
        self.pages.keep(owned[choice % len(owned)], bytes([self.serial % 256, self.serial // 256]))

    @rule(serial=st.integers(0, 60))
    def share(self, serial: int) -> None:
        """Whoever finds a page becomes one more owner of it."""
        found = self.pages.find([bytes([serial, 0])])
        before = [self.pages.owners(page) for page in found]
        self.pages.share(found)
        assert [self.pages.owners(page) - 1 for page in found] == before
        self.owners.append(found)

    @precondition(lambda self: self.owners)
    @rule(choice=st.integers(0, 99))
    def free(self, choice: int) -> None:
        """An owner gives all its pages back."""
        self.pages.free(self.owners.pop(choice % len(self.owners)))

    @precondition(lambda self: self.owners)
    @rule(choice=st.integers(0, 99))
    def forget(self, choice: int) -> None:
        """Pages are no longer kept; their owners keep them."""
        self.pages.forget(self.owners[choice % len(self.owners)])

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each page has the owners it should have, and all pages are accounted for."""
        for page in range(TOTAL):
            count = sum(page in owner for owner in self.owners)
            assert self.pages.owners(page) == count
        used = len({page for owner in self.owners for page in owner})
        assert self.pages.used_count == used
        assert self.pages.free_count == TOTAL - used >= self.pages.cached_count


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_page_freed_last_is_used_first() -> None:
    """Memory that was never touched stays untouched while other pages are free."""
    allocator = PageAllocator(100)
    assert allocator.allocate(3) == [0, 1, 2]
    allocator.free([0, 1, 2])
    assert allocator.allocate(2) == [0, 1]


def test_the_page_unused_longest_is_evicted_first_from_its_end() -> None:
    """Of one prefix the end goes before the beginning; what was used again stays longer."""
    allocator = PageAllocator(4)
    first, second = allocator.allocate(2), allocator.allocate(2)
    for page in (*first, *second):
        allocator.keep(page, b"%d" % page)
    allocator.free(first)
    allocator.free(second)
    assert (allocator.used_count, allocator.cached_count) == (0, 4)
    again = allocator.find([b"0"])
    allocator.share(again)
    allocator.free(again)
    assert [allocator.allocate(1)[0] for _ in range(4)] == [1, 3, 2, 0]
    assert allocator.find([b"0"]) == []
    assert allocator.evicted_count == 4


def test_the_first_page_under_a_key_stays() -> None:
    """A second page with the same content is not kept; it is free when it is given back."""
    allocator = PageAllocator(2)
    first, second = allocator.allocate(1), allocator.allocate(1)
    allocator.keep(first[0], b"k")
    allocator.keep(second[0], b"k")
    allocator.free(first + second)
    assert allocator.find([b"k"]) == first
    assert allocator.cached_count == 1


def test_misuse_is_noticed() -> None:
    """Freeing twice, asking for too much and sharing what may change are bugs that
    do not pass."""
    allocator = PageAllocator(2)
    pages = allocator.allocate(2)
    with pytest.raises(AssertionError):
        allocator.allocate(1)
    with pytest.raises(AssertionError):
        allocator.share(pages)
    allocator.free(pages)
    with pytest.raises(AssertionError):
        allocator.free(pages)
    with pytest.raises(AssertionError):
        allocator.keep(0, b"k")


def test_pages_that_nobody_uses_are_bounded() -> None:
    """Beyond the bound the one idle for longest is given up and handed out next."""
    pages = PageAllocator(10, most_idle=2)
    taken = pages.allocate(3)
    for index, page in enumerate(taken):
        pages.keep(page, bytes([index]))
    pages.free(taken)
    assert (pages.cached_count, pages.free_count, pages.evicted_count) == (2, 10, 1)
    assert pages.find([b"\0", b"\1", b"\2"]) == taken[:2]
    assert pages.allocate(1) == taken[2:]
