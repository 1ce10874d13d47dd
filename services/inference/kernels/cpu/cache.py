"""The paged cache of the C++ kernels; `csrc/layout.h` tells how a page lies in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from services.inference.kernels.cpu import memory, native
from services.inference.kernels.cpu.ahead import Ahead
from services.inference.kernels.cpu.forthcoming import PAGE_TOKENS, SLAB_PAGES, Forthcoming
from thermesh.errors import InvalidArgument

if TYPE_CHECKING:
    from services.inference.kernels import Span

KINDS = {"f16": 0, "int8": 1, "int10": 2}
"""What keys and values are kept as, by their numbers in the library."""

_VECTOR_BYTES = 64


class CpuCache:
    """Keys, values and means of keys of all sequences, in pages of 16 tokens.

    `content` is [slabs, layers, kv_heads, 16 pages, bytes] uint8, `means` [layers, pages,
    kv_heads, 2, head_size rounded up to 64] uint8, `mean_scales` [layers,
    pages, kv_heads] float32. Memory is taken as it is written to.
    """

    def __init__(
        self, layers: int, pages: int, kv_heads: int, head_size: int, kind: str = "f16"
    ) -> None:
        if pages < 1:
            raise InvalidArgument(f"a cache of {pages} pages, at least 1 is needed", field="pages")
        width = -(-head_size // _VECTOR_BYTES) * _VECTOR_BYTES
        slabs = -(-pages // SLAB_PAGES)
        unit_bytes = _unit_bytes(kind, head_size)
        self.content = _zeros(slabs, layers, kv_heads, SLAB_PAGES, unit_bytes)
        # All layers of the first page lie in as many huge pages: 24 MB for one token.
        self.means = _zeros(layers, pages, kv_heads, 2, width, in_huge_pages=False)
        self.mean_scales = np.zeros((layers, pages, kv_heads), dtype=np.float32)
        self.kind = kind
        # Asked for once, as each takes numpy a microsecond.
        parts = (self.content, self.means, self.mean_scales)
        self.addresses = tuple(part.ctypes.data for part in parts)
        self.pages = pages
        self.sizes = (layers, kv_heads, head_size)
        self._forthcoming = Forthcoming()
        self._ahead = Ahead(_taker(self.content))

    def expect(self, spans: Sequence[Span]) -> None:
        """Take memory for what is written soon, now that a step of `spans` was."""
        pages = self._forthcoming.after(spans)
        self._ahead.ask(page // SLAB_PAGES for page in pages if 0 <= page < self.pages)

    def copy_page(self, source: int, target: int) -> None:
        """Copy all layers of a page, and what is known of its keys."""
        self._units(target)[...] = self._units(source)
        self.means[:, target] = self.means[:, source]
        self.mean_scales[:, target] = self.mean_scales[:, source]

    def _units(self, page: int) -> npt.NDArray[np.uint8]:
        return self.content[page // SLAB_PAGES, :, :, page % SLAB_PAGES]

    @property
    def bytes_per_token(self) -> float:
        """Bytes that one token takes over all layers, keys and values together."""
        layers, kv_heads, head_size = self.sizes
        return layers * kv_heads * _unit_bytes(self.kind, head_size) / PAGE_TOKENS

    @property
    def mean_bytes_per_token(self) -> float:
        """Bytes that the means of keys add to that."""
        return (self.means.nbytes + self.mean_scales.nbytes) / (self.pages * PAGE_TOKENS)


def _taker(content: npt.NDArray[np.uint8]) -> Callable[[int], None]:
    """Return what makes a slab resident. It holds no cache, which may end before."""

    def take(slab: int) -> None:
        native.library().thermesh_take(content[slab].ctypes.data, content[slab].nbytes)

    return take


def _unit_bytes(kind: str, head_size: int) -> int:
    """Bytes of a page of one head, as `unit_bytes` of the library has them."""
    numbers = head_size * PAGE_TOKENS
    scales = 4 * PAGE_TOKENS
    sizes = {
        "f16": 4 * numbers,
        "int8": 2 * numbers + scales,
        "int10": 2 * numbers + scales + numbers // 4,
    }
    return sizes[kind]


def _zeros(*shape: int, in_huge_pages: bool = True) -> npt.NDArray[np.uint8]:
    zeros = memory.anonymous(math.prod(shape), in_huge_pages=in_huge_pages)
    return zeros.reshape(shape)
