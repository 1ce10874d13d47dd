"""A whole network rounded, layer after layer: each makes up for what those before lost.

The inputs of a layer are those that it has behind the layers rounded already, for texts
of which nothing is asked but to be like what the network will read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from services.inference.models.config import ModelConfig
from services.inference.models.group_codes import Rows
from services.inference.models.weights import Weights
from services.inference.quantise import forward
from services.inference.quantise.allocation import Mix
from services.inference.quantise.compensation import compensated, rounded_to

EMBEDDING, HEAD = "token_embd.weight", "output.weight"


@torch.no_grad()
def numbers(
    config: ModelConfig,
    weights: Weights,
    texts: torch.Tensor,
    mix: Mix,
    rows_of: Callable[[str], Rows],
    *,
    is_mixed: bool = False,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each matrix of `mix` by its name, as numbers whose nearest codes compensate.

    `weights` become what the codes stand for, on the way. `texts` are [texts, tokens]
    int64; `rows_of` tells the grid of a matrix; products are of bfloat16 where `is_mixed`.
    """
    views = weights.destinations(config)

    def changed(name: str, moments: torch.Tensor) -> tuple[str, torch.Tensor]:
        form, grid, view = mix[name], rows_of(name), views[name]
        found = compensated(view.contiguous(), grid, form, moments)
        view.copy_(torch.from_numpy(rounded_to(grid, form, found).weights(form)))
        return name, found

    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        state = forward.embedded(weights, texts)
        # First what the layers behind the embedding can make up for as well.
        last = forward.through(config, weights, state, range(config.layers))
        moments = second_moments(forward.normed(last, weights.norm, config))
        if not config.tied_embeddings:
            yield changed(EMBEDDING, torch.eye(config.hidden_size))
        yield changed(EMBEDDING if config.tied_embeddings else HEAD, moments)
        state = forward.embedded(weights, texts)
        for index in range(config.layers):
            layer = range(index, index + 1)
            for name, moments in _moments(config, weights, state, layer).items():
                yield changed(name, moments)
            state = forward.through(config, weights, state, layer).float()


def _moments(
    config: ModelConfig, weights: Weights, state: torch.Tensor, layer: range
) -> dict[str, torch.Tensor]:
    """Return the second moments of what the matrices of a layer are multiplied with."""
    found: dict[str, torch.Tensor] = {}

    def observe(names: tuple[str, ...], given: torch.Tensor, _made: torch.Tensor) -> None:
        found.update(dict.fromkeys(names, second_moments(given)))

    forward.through(config, weights, state, layer, observe=observe)
    return found


def second_moments(vectors: torch.Tensor) -> torch.Tensor:
    """Return the mean of x x^T over [texts, tokens, inputs], in float32."""
    with torch.autocast("cpu", enabled=False):
        flat = vectors.flatten(0, 1).float()
        return flat.t() @ flat / len(flat)
