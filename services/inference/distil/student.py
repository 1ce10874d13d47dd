"""The network in training: latent weights, and what becomes of them in the file.

A step computes with `weights`, which hold the rounded numbers; their gradients are
translated to those of the latent weights, scales and minima once, however many
texts and paths a step saw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from services.inference.distil.straight_through import Matrix
from services.inference.models.config import ModelConfig
from services.inference.models.weights import Layer, Weights


class Student:
    """Matrices and vectors in training by their GGUF names, and the network they make.

    Those that are `fixed` are part of the network and stay as they are.
    """

    def __init__(
        self,
        config: ModelConfig,
        matrices: Mapping[str, Matrix],
        vectors: Mapping[str, torch.Tensor],
        frequencies: torch.Tensor,
        fixed: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.config = config
        self.matrices = dict(matrices)
        self.vectors = dict(vectors)
        with torch.device(frequencies.device):
            self.weights = self._trainable(Weights.allocate(config))
        self.weights.inverse_frequencies.copy_(frequencies)
        with torch.no_grad():
            views = self.weights.destinations(config)
            for name, numbers in (fixed or {}).items():
                views[name].copy_(numbers)
        self.materialise()

    def _trainable(self, weights: Weights) -> Weights:
        """Return weights of which those ask for gradients that hold something in training."""
        views = weights.destinations(self.config)
        taught = {_place(views[name]) for name in [*self.matrices, *self.vectors]}
        return _mapped(weights, lambda one: one.detach().requires_grad_(_place(one) in taught))

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """All that is trained, by names of our own."""
        found = dict(self.vectors)
        for name, matrix in self.matrices.items():
            parts = zip(("latent", "scale", "minimum"), matrix.parameters, strict=False)
            found |= {f"{name}/{part}": tensor for part, tensor in parts}
        return found

    @torch.no_grad()
    def materialise(self) -> None:
        """Round the latent weights anew."""
        views = self.weights.destinations(self.config)
        for name, vector in self.vectors.items():
            views[name].copy_(vector)
        for name, matrix in self.matrices.items():
            views[name].copy_(matrix.rounded())

    @torch.no_grad()
    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradient of each of the `parameters`, and forget those of the weights."""
        given = _mapped(self.weights, _taken).destinations(self.config)
        found: dict[str, torch.Tensor] = {name: given[name] for name in self.vectors}
        for name, matrix in self.matrices.items():
            for part, tensor in vars(matrix.gradients(given[name])).items():
                if tensor is not None:
                    found[f"{name}/{part}"] = tensor
        return found


def _taken(tensor: torch.Tensor) -> torch.Tensor:
    gradient, tensor.grad = tensor.grad, None
    return torch.zeros_like(tensor) if gradient is None else gradient


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def moved(weights: Weights, device: torch.device) -> Weights:
    """Return weights on `device`; a tied embedding stays one with its head."""
    found = _mapped(weights, lambda tensor: tensor.to(device))
    frequencies = weights.inverse_frequencies.to(device)
    return dataclasses.replace(found, inverse_frequencies=frequencies)


def _mapped(weights: Weights, change: Callable[[torch.Tensor], torch.Tensor]) -> Weights:
    """Return weights with each tensor changed, but for the frequencies."""
    head = change(weights.head)
    is_tied = weights.embedding.data_ptr() == weights.head.data_ptr()
    embedding = head.t() if is_tied else change(weights.embedding)
    layers = tuple(_mapped_layer(layer, change) for layer in weights.layers)
    norm = change(weights.norm)
    return Weights(embedding, layers, norm, head, weights.inverse_frequencies)


def _mapped_layer(layer: Layer, change: Callable[[torch.Tensor], torch.Tensor]) -> Layer:
    changed: dict[str, Any] = {
        name: None if tensor is None else change(tensor) for name, tensor in vars(layer).items()
    }
    return Layer(**changed)
