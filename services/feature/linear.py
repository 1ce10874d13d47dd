"""Linear layers of bfloat16 whose weights are laid out once, as this processor multiplies them.

`torch.nn.functional.linear` brings weights of bfloat16 into the order of the processor's tiles
at each call: for a short text that takes as long as the products. oneDNN's own door, which
torch.compile goes through, takes weights that are in it, and applies the activation before it
writes. Layers of float32 gain nothing by it and stay as they were stored.

oneDNN makes code for each number of rows it meets, which takes as long as an encoding. So rows
come in eights: a text of a length that was not seen before costs what the others do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

ROWS = 8


@dataclass(frozen=True, eq=False)
class Linear:
    """y = x W' + b: `weight` [out, in] and `bias` [out], of one type; `is_packed` where the
    weight is in an order of its own and only for `__call__`.
    """

    weight: Tensor
    bias: Tensor
    is_packed: bool = False

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> Linear:
        """Return the layer of `weight` and `bias`, packed where that is quicker."""
        has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's
        if weight.dtype is not torch.bfloat16 or not has_onednn:
            return cls(weight, bias)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())  # noqa: SLF001
        return cls(packed, bias, is_packed=True)

    def __call__(self, states: Tensor, activation: str = "none") -> Tensor:
        """Return float32 [n, out] of float32 `states` [n, in]; `activation`: `none` or `gelu`."""
        given = states.to(self.bias.dtype)
        if self.is_packed:
            multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
            algorithm = "none" if activation == "gelu" else ""
            whole = functional.pad(given, (0, 0, 0, -len(given) % ROWS))
            product: Tensor = multiply(whole, self.weight, self.bias, activation, [], algorithm)
            return product[: len(given)].float()
        plain = functional.linear(given, self.weight, self.bias).float()
        return functional.gelu(plain) if activation == "gelu" else plain
