"""The layers of a network: six kernels each, on one device's share of the weights."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from services.inference.kernels.triton.cache import DeviceCache, LayerCache
from services.inference.kernels.triton.matrix import Matrix
from services.inference.kernels.triton.places import Heads, Places
from services.inference.kernels.triton.prompts import finished, rows_of
from services.inference.kernels.triton.weights import DeviceLayer, DeviceWeights, Share

if TYPE_CHECKING:
    from services.inference.models.config import ModelConfig

Attend = Callable[[torch.Tensor, LayerCache], torch.Tensor]
Sum = Callable[[torch.Tensor], torch.Tensor]

_FP8_ROWS = 64
"""From so many rows on arithmetic is the limit, and both sides of a product become FP8."""


class Layers:
    """What turns tokens into logits; how rows attend is the caller's."""

    def __init__(
        self,
        config: ModelConfig,
        weights: DeviceWeights,
        operations: ModuleType,
        dtype: torch.dtype,
        share: Share,
        add_up: Sum | None,
    ) -> None:
        self.config = config
        self.heads = config.heads // share.world
        self.kv_heads = config.kv_heads // share.world
        self._weights = weights
        self._operations = operations
        self._dtype = dtype
        self._share = share
        self._add_up = add_up

    def hidden(
        self, tokens: torch.Tensor, places: Places, cache: DeviceCache, attend: Attend
    ) -> torch.Tensor:
        """Return [rows, hidden] float32 after the last layer; the cache is extended."""
        hidden = rows_of(self._weights.embedding, tokens)
        for layer, layer_cache in zip(self._weights.layers, cache.layers, strict=True):
            hidden = self._layer(hidden, layer, layer_cache, places, attend)
        return hidden

    def _layer(
        self,
        hidden: torch.Tensor,
        layer: DeviceLayer,
        cache: LayerCache,
        places: Places,
        attend: Attend,
    ) -> torch.Tensor:
        epsilon = self.config.rms_epsilon
        joined = self._product(
            hidden,
            layer.query_key_value,
            norm=layer.attention_norm,
            bias=layer.query_key_value_bias,
            dtype=self._dtype,
        )
        heads = Heads(
            self.heads,
            self.kv_heads,
            self.config.head_size,
            self._weights.inverse_frequencies,
            layer.query_norm,
            layer.key_norm,
            epsilon,
        )
        queries = self._operations.rotate_and_store(joined, cache, places, heads)
        hidden = self._added(
            attend(queries, cache), layer.attention_output, hidden, layer.attention_output_bias
        )
        gated = self._product(
            hidden, layer.gate_up, norm=layer.feed_forward_norm, is_gated=True, dtype=self._dtype
        )
        return self._added(gated, layer.down, hidden)

    def _added(
        self,
        inputs: torch.Tensor,
        matrix: Matrix,
        hidden: torch.Tensor,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return `hidden` plus a product; of several devices, the first adds `hidden`."""
        residual = hidden if self._share.rank == 0 else None
        product = self._product(inputs, matrix, bias=bias, residual=residual)
        return product if self._add_up is None else self._add_up(product)

    def _product(
        self,
        hidden: torch.Tensor,
        matrix: Matrix,
        *,
        norm: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
        is_gated: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        operations, epsilon = self._operations, self.config.rms_epsilon
        if matrix.kind == "fp8" and len(hidden) >= _FP8_ROWS:
            codes, scales = operations.normed_codes(hidden, torch.float8_e4m3fn, norm, epsilon)
            product = operations.scaled_linear(codes, scales, matrix)
            return finished(product, bias, residual, is_gated=is_gated).to(dtype)
        result: torch.Tensor = operations.linear(
            hidden,
            matrix,
            norm=norm,
            epsilon=epsilon,
            bias=bias,
            residual=residual,
            is_gated=is_gated,
            dtype=dtype,
        )
        return result

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return [rows, vocabulary] float32."""
        return self._product(hidden, self._weights.head, norm=self._weights.norm)
