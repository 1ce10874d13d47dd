"""What remains of a layer makes up for what was cut: least squares, no gradient.

Neurons that stay were to add their part to what others did. Layer after layer, the
matrix behind them is fitted anew, so that the cut network's state comes as near as it
can to the original's behind the same layer, over inputs as they occur: what layers before
it lost is made up for too. Ridge regression towards the matrix that was there; layer-wise
reconstruction after a cut, as in SparseGPT (Frantar and Alistarh, 2023,
https://arxiv.org/abs/2301.00774) and SliceGPT (Ashkboos et al., 2024,
https://arxiv.org/abs/2401.15024).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from services.inference.models.config import ModelConfig
from services.inference.models.weights import Weights
from services.inference.quantise import forward

RIDGE = 0.01
"""Share of the mean second moment that holds each weight where it was."""

Rounding = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]
"""Given a matrix's name, its numbers ([outputs, inputs]) and the second moments of its
inputs, returns what it is stored as."""


@torch.no_grad()
def refit(
    whole: tuple[ModelConfig, Weights],
    part: tuple[ModelConfig, Weights],
    texts: torch.Tensor,
    rounded: Rounding,
    *,
    is_mixed: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> None:
    """Fit each layer's last matrix of `part`, in place; `texts` are [texts, tokens] int64."""
    (config, original), (sizes, cut) = whole, part
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        wanted = forward.embedded(original, texts)
        state = forward.embedded(cut, texts)
        for index in range(config.layers):
            layer = range(index, index + 1)
            wanted = forward.through(config, original, wanted, layer).float()
            given, before = _last_product(sizes, cut, state, layer)
            with torch.autocast("cpu", enabled=False):
                moments, crossed = _moments(given, wanted - before)
                down = cut.layers[index].down
                found = solved(moments, crossed, down)
                name = f"blk.{index}.ffn_down.weight"
                down.copy_(rounded(name, found.t().contiguous(), moments).t())
            state = before + given @ down
            progress(index + 1, config.layers)


def solved(moments: torch.Tensor, crossed: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Return the [inputs, outputs] of the least squares, held by `RIDGE` where they were.

    `moments` is the mean of x x^T over inputs x, `crossed` that of x y^T over what is wanted.
    """
    hold = RIDGE * moments.diagonal().double().mean().clamp(min=1e-12)
    left = moments.double() + hold * torch.eye(len(moments)).double()
    right = crossed.double() + hold * before.double()
    factor = torch.linalg.cholesky(left)
    found: torch.Tensor = torch.cholesky_solve(right, factor)
    return found.float()


def _last_product(
    config: ModelConfig, weights: Weights, state: torch.Tensor, layer: range
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a layer's last matrix is given, and the state without what it makes of it."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def observe(names: tuple[str, ...], given: torch.Tensor, made: torch.Tensor) -> None:
        if names == (f"blk.{layer.start}.ffn_down.weight",):
            seen.append((given.float(), made.float()))

    behind = forward.through(config, weights, state, layer, observe=observe).float()
    [(given, made)] = seen
    return given, behind - made


def _moments(given: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, outputs = given.flatten(0, 1), wanted.flatten(0, 1)
    return inputs.t() @ inputs / len(inputs), inputs.t() @ outputs / len(inputs)
