"""Names for pages of the KV cache, told from the tokens that fill them.

A page's key is a hash over the key of the page before and the page's token ids,
so that equal keys mean equal tokens from the beginning on. With 256 bits of
BLAKE2b nobody finds two beginnings with one key, by chance or on purpose; token
ids need not be compared. The chain starts from the tenant: what one tenant
computed is never found, and so not noticed by its speed, by another.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

_DIGEST_BYTES = 32


class PageKeys:
    """The keys of one sequence's pages, hashed as far as anybody asked."""

    def __init__(self, tenant: str, page_size: int) -> None:
        self._page_size = page_size
        self._seed = hashlib.blake2b(tenant.encode(), digest_size=_DIGEST_BYTES).digest()
        self._keys: list[bytes] = []

    def first(self, count: int, token_ids: Sequence[int]) -> list[bytes]:
        """Return the keys of the first `count` pages, which `token_ids` fill.

        The ids of pages hashed before must be the same as then.
        """
        assert count * self._page_size <= len(token_ids), "a page is not full"
        for index in range(len(self._keys), count):
            before = self._keys[-1] if self._keys else self._seed
            self._keys.append(_key(before, token_ids, index * self._page_size, self._page_size))
        return self._keys[:count]


def _key(before: bytes, token_ids: Sequence[int], start: int, count: int) -> bytes:
    content = array("q", token_ids[start : start + count]).tobytes()
    return hashlib.blake2b(before + content, digest_size=_DIGEST_BYTES).digest()
