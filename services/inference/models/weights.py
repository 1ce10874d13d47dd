"""Where each tensor of a model file goes.

Files hold one matrix per projection, [output, input]. The network wants few
large products, so query, key and value share one matrix, as do gate and up,
and all are stored [input, output] (see `kernels`). `Weights.destinations` hands
a loader a view for each tensor of the file, in the file's own orientation:
copying into the views, piece by piece, is all a loader does, and nothing is
ever resident twice. Names are those of GGUF; safetensors names are mapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from services.inference.models.config import ModelConfig, inverse_frequencies


@dataclass(frozen=True)
class Layer:
    """Weights of one layer, float32; matrices are [input, output]."""

    attention_norm: torch.Tensor
    query_key_value: torch.Tensor
    query_key_value_bias: torch.Tensor | None
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    attention_output: torch.Tensor
    attention_output_bias: torch.Tensor | None
    feed_forward_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True)
class Weights:
    """All weights of a network, float32."""

    embedding: torch.Tensor
    """[vocabulary, hidden]; where tied, a view of `head`."""
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: torch.Tensor
    """[hidden, vocabulary]."""
    inverse_frequencies: torch.Tensor
    """[head_size / 2]."""

    @classmethod
    def allocate(cls, config: ModelConfig) -> Weights:
        """Return weights of the right shapes with undefined content."""
        head = torch.empty(config.hidden_size, config.vocabulary_size)
        tied = config.tied_embeddings
        return cls(
            embedding=head.t() if tied else torch.empty(head.shape[1], head.shape[0]),
            layers=tuple(_allocate_layer(config) for _ in range(config.layers)),
            norm=torch.empty(config.hidden_size),
            head=head,
            inverse_frequencies=torch.from_numpy(inverse_frequencies(config)),
        )

    def destinations(self, config: ModelConfig) -> dict[str, torch.Tensor]:
        """Return a view to fill for each tensor of the file, by its GGUF name."""
        views = {"token_embd.weight": self.embedding, "output_norm.weight": self.norm}
        if not config.tied_embeddings:
            views["output.weight"] = self.head.t()
        for index, layer in enumerate(self.layers):
            for name, view in _layer_destinations(layer, config).items():
                views[f"blk.{index}.{name}"] = view
        return views


def _allocate_layer(config: ModelConfig) -> Layer:
    hidden, intermediate = config.hidden_size, config.intermediate_size
    query = config.heads * config.head_size
    joined = query + 2 * config.kv_heads * config.head_size
    return Layer(
        attention_norm=torch.empty(hidden),
        query_key_value=torch.empty(hidden, joined),
        query_key_value_bias=torch.empty(joined) if config.qkv_bias else None,
        query_norm=torch.empty(config.head_size) if config.qk_norm else None,
        key_norm=torch.empty(config.head_size) if config.qk_norm else None,
        attention_output=torch.empty(query, hidden),
        attention_output_bias=torch.empty(hidden) if config.output_bias else None,
        feed_forward_norm=torch.empty(hidden),
        gate_up=torch.empty(hidden, 2 * intermediate),
        down=torch.empty(intermediate, hidden),
    )


def _layer_destinations(layer: Layer, config: ModelConfig) -> dict[str, torch.Tensor]:
    query, key_value = config.heads * config.head_size, config.kv_heads * config.head_size
    parts = (query, key_value, key_value)
    q, k, v = layer.query_key_value.t().split_with_sizes(parts)
    gate, up = layer.gate_up.t().chunk(2)
    views = {
        "attn_norm.weight": layer.attention_norm,
        "attn_q.weight": q,
        "attn_k.weight": k,
        "attn_v.weight": v,
        "attn_output.weight": layer.attention_output.t(),
        "ffn_norm.weight": layer.feed_forward_norm,
        "ffn_gate.weight": gate,
        "ffn_up.weight": up,
        "ffn_down.weight": layer.down.t(),
    }
    return views | _optional_destinations(layer, parts)


def _optional_destinations(layer: Layer, parts: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    views: dict[str, torch.Tensor] = {}
    if layer.query_key_value_bias is not None:
        q, k, v = layer.query_key_value_bias.split_with_sizes(parts)
        views |= {"attn_q.bias": q, "attn_k.bias": k, "attn_v.bias": v}
    if layer.attention_output_bias is not None:
        views["attn_output.bias"] = layer.attention_output_bias
    if layer.query_norm is not None and layer.key_norm is not None:
        views["attn_q_norm.weight"] = layer.query_norm
        views["attn_k_norm.weight"] = layer.key_norm
    return views
