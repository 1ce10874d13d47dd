"""Networks of float32 weights: where no kernels fit a file's weights as they are.

Only who needs one imports this module, as it imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from services.inference.kernels import on_device
from services.inference.models import nested_weights
from services.inference.models.config import ModelConfig
from services.inference.models.gguf_tensors import GgufTensors
from services.inference.models.nested import Prefix
from services.inference.models.network import Network
from services.inference.models.shards import Shards
from services.inference.models.weights import Weights

if TYPE_CHECKING:
    from services.inference.kernels.triton.network import GpuNetwork


def network(config: ModelConfig, weights: Weights) -> Network | GpuNetwork:
    """Return a network of `weights`: on a GPU, rounded to bfloat16, or in plain torch."""
    return on_device(config, weights) or Network(config, weights)


def read_weights(tensors: GgufTensors, config: ModelConfig) -> Weights:
    """Return the weights of a file as float32."""
    weights = Weights.allocate(config)
    for name, view in weights.destinations(config).items():
        _fill(view, tensors, name)
    weights.inverse_frequencies.copy_(torch.from_numpy(tensors.inverse_frequencies()))
    return weights


def light_weights(whole: Weights, own: GgufTensors, config: ModelConfig, light: Prefix) -> Weights:
    """Return the weights of a light path as float32: those of its `own`, and cuts of the others."""
    found = nested_weights.separated(whole, config, light)
    for name, view in found.destinations(light.config(config)).items():
        if own.has(name):
            _fill(view, own, name)
    return found


def _fill(view: torch.Tensor, tensors: GgufTensors, name: str) -> None:
    for first, rows in tensors.pieces(name):
        target = view[first : first + len(rows)] if view.dim() > 1 else view
        target.copy_(torch.from_numpy(np.require(rows, requirements="W")))


def from_shards(shards: Shards, config: ModelConfig) -> Network | GpuNetwork:
    """Return a network of a folder's weights."""
    weights = Weights.allocate(config)
    for name, view in weights.destinations(config).items():
        for first, rows in shards.pieces(name):
            target = view[first : first + len(rows)] if view.dim() > 1 else view
            target.copy_(torch.from_numpy(rows))
    return network(config, weights)
