"""Neurons and heads in the order of their importance, the function of the network unchanged.

What a neuron is worth is told by the first term of a Taylor series: its activation
times the gradient that reaches it is what its absence would change, and the mean of
the squares, with the token drawn from the network itself, is twice the divergence
to expect (Molchanov et al., 2019, https://arxiv.org/abs/1906.10771; the Fisher
information once more, as in `quantise.curvature`). Heads are ranked among those
that share a key-value head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from services.inference.models.config import ModelConfig
from services.inference.models.weights import Weights
from services.inference.quantise import forward

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Which head and which neuron of the original comes where, for one layer."""

    heads: Places
    neurons: Places


@dataclass(frozen=True)
class Importance:
    """Of each unit of one layer, in nats a token: [heads] and [intermediate]."""

    heads: npt.NDArray[np.float64]
    neurons: npt.NDArray[np.float64]

    def order(self, kv_heads: int) -> Order:
        """Return the units with the most important first; of equal ones, the earlier."""
        groups = self.heads.reshape(kv_heads, -1)
        first = np.arange(kv_heads)[:, None] * groups.shape[1]
        heads = np.argsort(-groups, axis=1, kind="stable") + first
        return Order(heads.ravel(), np.argsort(-self.neurons, kind="stable"))


def measured(
    config: ModelConfig, weights: Weights, texts: torch.Tensor, seed: int = 0
) -> list[Importance]:
    """Return the importance of the units of each layer on `texts` ([texts, tokens] int64)."""
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, torch.Tensor] = {}
    for text in texts:
        for name, squares in _squares(config, weights, text[None], generator).items():
            sums[name] = sums.get(name, 0.0) + squares
    half = 0.5 / texts.numel()
    found = {name: (total * half).numpy() for name, total in sums.items()}
    return [
        Importance(found[f"blk.{i}.attn_output.weight"], found[f"blk.{i}.ffn_down.weight"])
        for i in range(config.layers)
    ]


def _squares(
    config: ModelConfig, weights: Weights, text: torch.Tensor, generator: torch.Generator
) -> Mapping[str, torch.Tensor]:
    """Return each unit's squared terms, summed over the tokens of `text`."""
    seen: dict[str, torch.Tensor] = {}

    def observe(names: tuple[str, ...], given: torch.Tensor, _made: torch.Tensor) -> None:
        if names[0].endswith(("attn_output.weight", "ffn_down.weight")):
            given.retain_grad()
            seen[names[0]] = given

    start = forward.embedded(weights, text).requires_grad_()
    state = forward.hidden(config, weights, start, observe)
    torch.autograd.backward(state, _drawn_gradient(state, weights.head, generator))
    return {name: _terms(name, given, config.head_size) for name, given in seen.items()}


def _drawn_gradient(
    state: torch.Tensor, head: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the gradient of log p(token drawn from p) by `state`."""
    with torch.no_grad():
        chances = torch.softmax(state.flatten(0, 1) @ head, -1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        by_logit = chances.neg_()
        by_logit.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=by_logit.dtype))
        return (by_logit @ head.t()).view_as(state)


def _terms(name: str, given: torch.Tensor, head_size: int) -> torch.Tensor:
    assert given.grad is not None
    terms = (given.detach() * given.grad).flatten(0, 1).double()
    if "attn_output" in name:
        terms = terms.view(len(terms), -1, head_size).sum(-1)
    return terms.square().sum(0)


def reordered(name: str, tensor: torch.Tensor, orders: list[Order], head_size: int) -> torch.Tensor:
    """Return a tensor of a file ([outputs, inputs] or a vector) with its units in order."""
    parts = name.split(".")
    if parts[0] != "blk":
        return tensor
    order, part = orders[int(parts[1])], parts[2]
    heads = torch.from_numpy((order.heads[:, None] * head_size + np.arange(head_size)).ravel())
    neurons = torch.from_numpy(order.neurons)
    match part:
        case "attn_q":
            return tensor[heads]
        case "attn_output" if parts[3] == "weight":
            return tensor[:, heads]
        case "ffn_gate" | "ffn_up":
            return tensor[neurons]
        case "ffn_down":
            return tensor[:, neurons]
    return tensor
