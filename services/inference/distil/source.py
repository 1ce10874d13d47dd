"""The model to train, its neurons and heads in another order."""

from __future__ import annotations

import pathlib

import torch

from services.inference.distil.order import Order, reordered
from services.inference.models.weights import Weights
from services.inference.quantise.source import Source


class OrderedSource(Source):
    """A GGUF file whose units are read in the order of `orders`; none: the file's own."""

    def __init__(self, path: pathlib.Path, orders: list[Order] | None = None) -> None:
        super().__init__(path)
        self._orders = orders

    def weights(self) -> Weights:
        """See `Source.weights`."""
        weights = super().weights()
        for name, view in weights.destinations(self.config).items():
            view.copy_(self._in_order(name, view.clone()))
        return weights

    def matrix(self, name: str) -> torch.Tensor:
        """See `Source.matrix`."""
        return self._in_order(name, super().matrix(name))

    def vector(self, name: str) -> torch.Tensor:
        """See `Source.vector`."""
        return self._in_order(name, super().vector(name))

    def _in_order(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if self._orders is None:
            return tensor
        return reordered(name, tensor, self._orders, self.config.head_size)
