"""The operations that a network in plain torch is composed of, and who computes them.

`reference` defines what they mean, every other implementation is tested against it.

Rules:

1. Nobody imports an implementation but this module.
2. Weights of linear layers are stored [input, output]. On CPUs this is up to
   twice as fast as [output, input] for batches of 4 to 32 rows.
3. An operation never keeps a tensor it was given, but for the cache.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from services.inference.kernels import PAGE_SIZE, StepBatch, reference
from thermesh.errors import InvalidArgument


class PagedCache:
    """Keys and values of all sequences in pages of `PAGE_SIZE` tokens.

    `keys` and `values` are [layers, pages, PAGE_SIZE, kv_heads, head_size]: the
    vector of one token is contiguous (one copy per token on write) and so is a
    page (one copy per page on gather). Of kind `f16` they are float32, which
    other implementations round to half precision. Of kind `int8` they are codes
    in [-127, 127], and `key_scales` and `value_scales`, [layers, pages,
    PAGE_SIZE, kv_heads] float16, tell what a code of each token and head is worth;
    keys, and the queries that meet them, are turned before (`reference.hadamard`).
    Of kind `int10` keys are fourths of such codes, in [-511, 511], and values are
    turned too.
    """

    def __init__(
        self, layers: int, pages: int, kv_heads: int, head_size: int, kind: str = "f16"
    ) -> None:
        shape = (layers, pages, PAGE_SIZE, kv_heads, head_size)
        keys, values = _NUMBERS[kind]
        self.keys, self.values = _zeros(shape, keys), _zeros(shape, values)
        self.key_scales = None if kind == "f16" else _zeros(shape[:-1], np.float16)
        self.value_scales = None if kind == "f16" else _zeros(shape[:-1], np.float16)
        self.kind = kind
        self.pages = pages

    def copy_page(self, source: int, target: int) -> None:
        """Copy all layers of a page."""
        for numbers in (self.keys, self.values, self.key_scales, self.value_scales):
            if numbers is not None:
                numbers[:, target] = numbers[:, source]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers, keys and values together."""
        tensors = (self.keys, self.values, self.key_scales, self.value_scales)
        taken = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        return taken // (self.pages * PAGE_SIZE)


_NUMBERS = {
    "f16": (np.float32, np.float32),
    "int8": (np.int8, np.int8),
    "int10": (np.int16, np.int8),
}
"""What keys and values of each kind of cache are kept as."""


def _zeros(shape: tuple[int, ...], kind: Any) -> torch.Tensor:
    # numpy asks the kernel for zeroed memory, which costs nothing before it
    # is touched; torch.zeros would make the whole cache resident at once.
    # It must be zeros: a masked position weighs 0, and 0 * NaN is NaN.
    return torch.from_numpy(np.zeros(shape, dtype=kind))


class Kernels(Protocol):
    """What an implementation offers. Activations are float32, rows are tokens."""

    name: str
    """The name that `select` knows and DescribeModel tells."""

    def begin(
        self, batch: StepBatch, cache: PagedCache, inverse_frequencies: torch.Tensor, heads: int
    ) -> Any:
        """Compute once what all layers of a step share; opaque to the caller.

        `inverse_frequencies` is [head_size / 2] float32, `heads` the number of
        query heads.
        """
        ...

    def rms_norm(self, hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Return `hidden / rms(hidden) * weight` over the last dimension.

        Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467.
        """
        ...

    def linear(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Return `hidden @ weight + bias`: [rows, input] x [input, output]."""
        ...

    def rotary(self, vectors: torch.Tensor, step: Any) -> torch.Tensor:
        """Rotate [tokens, heads, head_size] by each token's position.

        Member i turns with member i + head_size / 2, as Hugging Face lays heads
        out. Su et al., 2021, https://arxiv.org/abs/2104.09864.
        """
        ...

    def paged_attention(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        cache: PagedCache,
        layer: int,
        *,
        step: Any,
    ) -> torch.Tensor:
        """Write the new keys and values to the cache, then attend causally.

        `queries` is [tokens, heads, head_size], `keys` and `values` [tokens,
        kv_heads, head_size]; the result is [tokens, heads * head_size]. Query
        head h reads key-value head `h // (heads / kv_heads)`.
        """
        ...

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """Return `silu(gate) * up` of [rows, gate | up]: half as wide.

        SwiGLU, Shazeer, 2020, https://arxiv.org/abs/2002.05202.
        """
        ...


IMPLEMENTATIONS: dict[str, Kernels] = {reference.name: reference}
"""Every implementation that this machine can run, by its name."""


def select(name: str = "reference") -> Kernels:
    """Return the implementation `name`; raise InvalidArgument for an unknown one."""
    if name not in IMPLEMENTATIONS:
        allowed = ", ".join(IMPLEMENTATIONS)
        raise InvalidArgument(f"kernels must be one of {allowed}, got {name!r}", field="kernels")
    return IMPLEMENTATIONS[name]
