"""Who owns which page of the KV cache."""

from __future__ import annotations


class PageAllocator:
    """Hands out page numbers in [0, total); each page has at most one owner.

    The page freed last is handed out first: a lightly used engine touches few
    pages, and memory of pages never touched is never committed.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = list(range(total - 1, -1, -1))
        self._is_free = [True] * total

    @property
    def free_count(self) -> int:
        """Pages without an owner."""
        return len(self._free)

    @property
    def used_count(self) -> int:
        """Pages with an owner."""
        return self.total - len(self._free)

    def can_allocate(self, count: int) -> bool:
        """Tell whether `count` pages are free."""
        return count <= len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Return `count` pages, now owned by the caller; see `can_allocate`."""
        assert self.can_allocate(count), "asked for more pages than are free"
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._is_free[page] = False
        return pages

    def free(self, pages: list[int]) -> None:
        """Take `pages` back."""
        for page in reversed(pages):
            assert not self._is_free[page], "a page was freed twice"
            self._is_free[page] = True
            self._free.append(page)
