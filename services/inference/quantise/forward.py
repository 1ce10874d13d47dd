"""The network as one differentiable expression, and what flows through its matrices.

`models.network.Network` runs in inference mode with a cache. Here whole texts run
side by side without one, so that gradients can be taken.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from services.inference.models.config import ModelConfig
from services.inference.models.weights import Layer, Weights

Observer = Callable[[tuple[str, ...], torch.Tensor, torch.Tensor], None]
"""Told (GGUF names of the matrices, input, output) of each product; the outputs of
several matrices lie side by side."""


Attended = Callable[[torch.Tensor, torch.Tensor], None]
"""Told rotated queries [texts, heads, tokens, head_size] and keys (likewise, of the
key-value heads) of each layer."""


def _unattended(queries: torch.Tensor, keys: torch.Tensor) -> None:
    pass


def _unobserved(names: tuple[str, ...], given: torch.Tensor, made: torch.Tensor) -> None:
    pass


def has_16_bit_products(device: torch.device) -> bool:
    """Tell whether products of bfloat16 are the faster ones there."""
    if device.type == "cuda":
        return True
    return bool(torch.cpu._is_amx_tile_supported())  # noqa: SLF001  # torch has no public name


def embedded(weights: Weights, token_ids: torch.Tensor) -> torch.Tensor:
    """Return the embeddings of [texts, tokens] int64: [texts, tokens, hidden]."""
    return F.embedding(token_ids, weights.embedding)


def hidden(
    config: ModelConfig,
    weights: Weights,
    start: torch.Tensor,
    observe: Observer = _unobserved,
    attended: Attended = _unattended,
) -> torch.Tensor:
    """Return what the head reads, [texts, tokens, hidden], for embeddings `start`."""
    layers = range(len(weights.layers))
    state = through(config, weights, start, layers, observe=observe, attended=attended)
    return normed(state, weights.norm, config)


def through(
    config: ModelConfig,
    weights: Weights,
    start: torch.Tensor,
    layers: range,
    *,
    observe: Observer = _unobserved,
    attended: Attended = _unattended,
) -> torch.Tensor:
    """Return the state after some of the layers, [texts, tokens, hidden]."""
    positions = torch.arange(start.shape[1], device=start.device)
    angles = positions[:, None].float() * weights.inverse_frequencies
    rotation = torch.polar(torch.ones_like(angles), angles)
    state = start
    for index in layers:
        run = _LayerRun(config, weights.layers[index], f"blk.{index}.", observe, attended)
        state = state + run.attention(state, rotation)
        state = state + run.feed_forward(state)
    return state


def logits(config: ModelConfig, weights: Weights, token_ids: torch.Tensor) -> torch.Tensor:
    """Return [texts, tokens, vocabulary] for [texts, tokens] int64."""
    return hidden(config, weights, embedded(weights, token_ids)) @ weights.head


def normed(vectors: torch.Tensor, weight: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Return the RMS norm of vectors."""
    return F.rms_norm(vectors, (vectors.shape[-1],), weight, config.rms_epsilon)


class _LayerRun:
    """One layer in one pass."""

    def __init__(
        self,
        config: ModelConfig,
        layer: Layer,
        prefix: str,
        observe: Observer,
        attended: Attended,
    ) -> None:
        self._config = config
        self._layer = layer
        self._prefix = prefix
        self._observe = observe
        self._attended = attended

    def attention(self, state: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        config, layer = self._config, self._layer
        ready = normed(state, layer.attention_norm, config)
        joined = self._product(("attn_q", "attn_k", "attn_v"), ready, layer.query_key_value)
        if layer.query_key_value_bias is not None:
            joined = joined + layer.query_key_value_bias
        heads = joined.view(*joined.shape[:2], -1, config.head_size).transpose(1, 2)
        counts = (config.heads, config.kv_heads, config.kv_heads)
        queries, keys, values = heads.split_with_sizes(counts, 1)
        if layer.query_norm is not None and layer.key_norm is not None:
            queries = normed(queries, layer.query_norm, config)
            keys = normed(keys, layer.key_norm, config)
        queries, keys = _rotated(queries, rotation), _rotated(keys, rotation)
        self._attended(queries, keys)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, enable_gqa=True
        )
        merged = attended.transpose(1, 2).flatten(-2)
        output = self._product(("attn_output",), merged, layer.attention_output)
        bias = layer.attention_output_bias
        return output if bias is None else output + bias

    def feed_forward(self, state: torch.Tensor) -> torch.Tensor:
        ready = normed(state, self._layer.feed_forward_norm, self._config)
        joined = self._product(("ffn_gate", "ffn_up"), ready, self._layer.gate_up)
        gate, up = joined.chunk(2, -1)
        return self._product(("ffn_down",), F.silu(gate) * up, self._layer.down)

    def _product(
        self, names: tuple[str, ...], given: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        made = given @ weight
        self._observe(tuple(f"{self._prefix}{name}.weight" for name in names), given, made)
        return made


def _rotated(vectors: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Turn member i with member i + half, as one complex number."""
    # Complex numbers have no 16-bit parts, which vectors have under autocast.
    turned = torch.complex(*vectors.float().chunk(2, -1)) * rotation
    return torch.cat((turned.real, turned.imag), -1)


def shares(names: tuple[str, ...], config: ModelConfig) -> list[tuple[str, slice]]:
    """Return which columns of a joined output belong to which matrix."""
    keys = config.kv_heads * config.head_size
    widths = {
        "attn_q": config.heads * config.head_size,
        "attn_k": keys,
        "attn_v": keys,
        "ffn_gate": config.intermediate_size,
        "ffn_up": config.intermediate_size,
    }
    sizes = [widths.get(name.split(".")[2], config.hidden_size) for name in names]
    edges = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    return [(name, slice(*edge)) for name, edge in zip(names, pairwise(edges), strict=True)]
