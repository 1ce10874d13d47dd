"""Weights of networks within a network, in plain torch (`nested` says what those are)."""

from __future__ import annotations

import dataclasses

import torch

from services.inference.models.config import ModelConfig
from services.inference.models.nested import Prefix, kept_heads
from services.inference.models.weights import Layer, Weights


def cut(weights: Weights, config: ModelConfig, prefix: Prefix) -> Weights:
    """Return the path's weights, views or copies of the whole's. Gradients pass."""
    size = config.head_size
    heads = torch.tensor(kept_heads(config, prefix), device=weights.norm.device)
    queries = (heads[:, None] * size + torch.arange(size, device=heads.device)).flatten()
    layers = tuple(_layer(layer, config, prefix, queries) for layer in weights.layers)
    return dataclasses.replace(weights, layers=layers)


def separated(weights: Weights, config: ModelConfig, prefix: Prefix) -> Weights:
    """Return the path's weights as `cut` does, sharing nothing with the whole."""
    sizes = prefix.config(config)
    parts = cut(weights, config, prefix).destinations(sizes)
    found = Weights.allocate(sizes)
    for name, view in found.destinations(sizes).items():
        view.copy_(parts[name])
    found.inverse_frequencies.copy_(weights.inverse_frequencies)
    return found


def _layer(layer: Layer, config: ModelConfig, prefix: Prefix, queries: torch.Tensor) -> Layer:
    joined = layer.query_key_value.shape[1]
    first = config.heads * config.head_size
    kept = torch.cat((queries, torch.arange(first, joined, device=queries.device)))
    bias = layer.query_key_value_bias
    gate, up = layer.gate_up.chunk(2, 1)
    return dataclasses.replace(
        layer,
        query_key_value=layer.query_key_value.index_select(1, kept),
        query_key_value_bias=None if bias is None else bias.index_select(0, kept),
        attention_output=layer.attention_output.index_select(0, queries),
        gate_up=torch.cat((gate[:, : prefix.neurons], up[:, : prefix.neurons]), 1),
        down=layer.down[: prefix.neurons],
    )
