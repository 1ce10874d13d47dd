"""The paged keys and values of a network on a device.

Pages of 16 tokens, as in the engine. Within a page a head's vectors lie
together, which is what a program of the attention kernels reads. In eight bits
each vector has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

PAGE = 16
INT8_HIGHEST = 127.0


@dataclass(frozen=True)
class LayerCache:
    """One layer of a `DeviceCache`."""

    keys: torch.Tensor
    """[pages, kv_heads, 16, head_size]."""
    values: torch.Tensor
    """As `keys`."""
    key_scales: torch.Tensor
    """[pages, kv_heads, 16] float32; empty where keys are not int8."""
    value_scales: torch.Tensor
    """As `key_scales`."""
    means: torch.Tensor
    """[pages, 2, kv_heads, head_size] int8: the mean key of each half page as codes."""
    mean_scales: torch.Tensor
    """[pages, kv_heads] float32: what a code of both means is worth."""
    index: int = field(default=0, kw_only=True)
    """Which layer it is."""

    @property
    def alone(self) -> LayerCache:
        """All layers, were it the only one: with a further dimension in front."""
        parts = (self.keys, self.values, self.key_scales, self.value_scales)
        return LayerCache(*(one[None] for one in (*parts, self.means, self.mean_scales)))

    @property
    def is_int8(self) -> bool:
        """Whether the vectors are eight bits with scales."""
        return self.keys.dtype == torch.int8


class DeviceCache:
    """Keys and values of all sequences on one device.

    `before_copy`, where set, hears of every copy: other devices make theirs.
    """

    def __init__(
        self,
        layers: int,
        pages: int,
        kv_heads: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, pages, kv_heads, PAGE, head_size)
        # Zeros: what lies beyond a sequence weighs 0, and 0 * NaN is NaN.
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        scales = shape[:-1] if dtype == torch.int8 else (layers, 0)
        self._key_scales = torch.zeros(scales, dtype=torch.float32, device=device)
        self._value_scales = torch.zeros(scales, dtype=torch.float32, device=device)
        halves = (layers, pages, 2, kv_heads, head_size)
        self._means = torch.zeros(halves, dtype=torch.int8, device=device)
        self._mean_scales = torch.zeros(layers, pages, kv_heads, device=device)
        self.pages = pages
        self.before_copy: Callable[[int, int], None] | None = None
        self.layers = tuple(
            LayerCache(*parts, index=index)
            for index, parts in enumerate(zip(*self._kept, strict=True))
        )
        self.all_layers = LayerCache(*self._kept)
        """All layers in one, with a further dimension in front."""

    @property
    def _kept(self) -> tuple[torch.Tensor, ...]:
        scales = (self._key_scales, self._value_scales)
        return self._keys, self._values, *scales, self._means, self._mean_scales

    def copy_page(self, source: int, target: int) -> None:
        """Copy all layers of a page."""
        if self.before_copy is not None:
            self.before_copy(source, target)
        for numbers in self._kept:
            if numbers.numel():
                numbers[:, target] = numbers[:, source]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers, scales and means included."""
        layers, _, kv_heads, _, head_size = self._keys.shape
        return bytes_per_page(layers, kv_heads, head_size, self._keys.dtype) // PAGE


def bytes_per_page(layers: int, kv_heads: int, head_size: int, dtype: torch.dtype) -> int:
    """Return what one page takes on the device."""
    scale = 4 if dtype == torch.int8 else 0
    vectors = 2 * PAGE * (head_size * dtype.itemsize + scale)
    means = 2 * head_size + 4
    return layers * kv_heads * (vectors + means)
