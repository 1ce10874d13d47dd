"""Who owns which page of the KV cache, and which pages are kept for later.

A page has any number of owners. One that is written has exactly one: only full
pages are shared, and nobody writes to a page that is full. A full page may be
*kept* under the key of its tokens (`page_keys.PageKeys`); sequences with the same
beginning then own it together. When its last owner is gone it waits, idle,
until another asks for it or its place is needed: least recently used first.
"""

from __future__ import annotations

from collections.abc import Sequence


class PageAllocator:
    """Hands out page numbers in [0, total).

    The page freed last is handed out first: a lightly used engine touches few
    pages, and memory of pages never touched is never committed. Idle pages are
    taken only where no other is left. With more than `most_idle` of them, the
    one idle for longest is given up, so that memory is not committed for pages
    that nobody may ever ask for.
    """

    def __init__(self, total: int, most_idle: int | None = None) -> None:
        self.total = total
        self._most_idle = total if most_idle is None else most_idle
        self.evicted_count = 0
        self._free = list(range(total - 1, -1, -1))
        self._owners = [0] * total
        self._keys: dict[int, bytes] = {}
        self._kept: dict[bytes, int] = {}
        self._idle: dict[int, None] = {}  # kept pages without an owner, oldest first

    @property
    def free_count(self) -> int:
        """Pages that can be handed out: those without an owner."""
        return len(self._free) + len(self._idle)

    @property
    def used_count(self) -> int:
        """Pages with an owner."""
        return self.total - self.free_count

    @property
    def cached_count(self) -> int:
        """Pages without an owner whose content is kept."""
        return len(self._idle)

    def owners(self, page: int) -> int:
        """Return how many own `page`."""
        return self._owners[page]

    def can_allocate(self, count: int) -> bool:
        """Tell whether `count` pages can be handed out."""
        return count <= self.free_count

    def allocate(self, count: int) -> list[int]:
        """Return `count` pages owned by the caller alone; see `can_allocate`."""
        assert self.can_allocate(count), "asked for more pages than are free"
        pages = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        for page in pages:
            self._owners[page] = 1
        return pages

    def share(self, pages: Sequence[int]) -> None:
        """Make the caller one more owner of `pages`, which must be kept."""
        for page in pages:
            assert page in self._keys, "only a kept page can be shared"
            self._idle.pop(page, None)
            self._owners[page] += 1

    def free(self, pages: Sequence[int]) -> None:
        """Give up one ownership of each of `pages`.

        From the last to the first: of pages that go idle together, the end of
        a prefix is evicted before its beginning, without which it is no use.
        """
        for page in reversed(pages):
            assert self._owners[page], "a page was freed twice"
            self._owners[page] -= 1
            if not self._owners[page]:
                self._retire(page)

    def keep(self, page: int, key: bytes) -> None:
        """Keep the full `page` under `key`; the first page under a key stays."""
        assert self._owners[page], "only an owned page can be kept"
        if key not in self._kept and page not in self._keys:
            self._kept[key] = page
            self._keys[page] = key

    def forget(self, pages: Sequence[int]) -> None:
        """Do not keep `pages` any longer, which the caller owns."""
        for page in pages:
            assert self._owners[page], "only an owned page can be forgotten"
            key = self._keys.pop(page, None)
            if key is not None:
                del self._kept[key]

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Return the pages kept under `keys`, up to the first key without one."""
        pages: list[int] = []
        for key in keys:
            page = self._kept.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def _retire(self, page: int) -> None:
        if page in self._keys:
            self._idle[page] = None
            if len(self._idle) > self._most_idle:
                self._free.append(self._evict())
        else:
            self._free.append(page)

    def _evict(self) -> int:
        page = next(iter(self._idle))
        del self._idle[page]
        del self._kept[self._keys.pop(page)]
        self.evicted_count += 1
        return page
