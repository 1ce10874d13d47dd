"""Teaching gates what dense attention reads, the network frozen.

For some late queries of a text the teacher is the attention of their heads, added
up over each page; a gate learns to predict it, by the divergence of the two. Layers
learn apart from one another, so that one pass over a text teaches all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from services.inference.kernels.gates import (
    Gates,
    Summary,
    aimed,
    gated_scores,
    log_shares,
    summarised,
)
from services.inference.models.config import ModelConfig
from services.inference.models.weights import Weights
from services.inference.quantise import forward

_PAGE_SIZE = 16
_WINDOW_PAGES = 8
"""Newest pages, which every query reads and nobody chooses."""
_QUERIES = 64
"""Of each text, that teach or judge."""
_WEIGHT_RATE, _TURN_RATE = 1e-2, 5e-4
"""A turn has as many numbers as a head squared, and noise in all of them adds up."""
_LEAST = 1e-9


@dataclass(frozen=True)
class Scene:
    """Some queries of one layer, and what dense attention reads for them."""

    queries: torch.Tensor
    """[queries, heads, head_size]."""
    summary: Summary
    is_candidate: torch.Tensor
    """[queries, pages] bool."""
    masses: torch.Tensor
    """[queries, kv_heads, pages]: the attention of a group's heads, of all their attention."""


def scenes(config: ModelConfig, weights: Weights, text: torch.Tensor, seed: int) -> Iterator[Scene]:
    """Yield a scene of each layer for `text` ([tokens] int64), in order."""
    pages = len(text) // _PAGE_SIZE
    if pages < 2 * (_WINDOW_PAGES + 2):
        raise ValueError(f"a text of {len(text)} tokens leaves nothing to choose")
    generator = torch.Generator().manual_seed(seed)
    first = pages * _PAGE_SIZE // 2
    places = first + torch.randperm(pages * _PAGE_SIZE - first, generator=generator)[:_QUERIES]
    found: list[Scene] = []

    def attended(queries: torch.Tensor, keys: torch.Tensor) -> None:
        found.append(_scene(queries[0], keys[0], places))

    with torch.no_grad():
        start = forward.embedded(weights, text[None])
        forward.hidden(config, weights, start, attended=attended)
    yield from found


def _scene(queries: torch.Tensor, keys: torch.Tensor, places: torch.Tensor) -> Scene:
    """Return the scene of [heads, tokens, size] and [kv_heads, tokens, size], rotated."""
    kv_heads, tokens, size = keys.shape
    chosen = queries[:, places].reshape(kv_heads, -1, len(places), size)
    scores = torch.einsum("hgqd,htd->qhgt", chosen, keys) * size**-0.5
    is_later = torch.arange(tokens)[None] > places[:, None]
    attention = scores.masked_fill(is_later[:, None, None], float("-inf")).softmax(-1).mean(2)
    pages = tokens // _PAGE_SIZE
    masses = attention[..., : pages * _PAGE_SIZE].reshape(*attention.shape[:2], pages, -1).sum(-1)
    page = torch.arange(pages)[None]
    is_candidate = (page > 0) & (page < (places // _PAGE_SIZE - _WINDOW_PAGES)[:, None])
    return Scene(
        queries[:, places].transpose(0, 1), summarised(keys.transpose(0, 1)), is_candidate, masses
    )


def predicted(gates: Gates, layer: int, scene: Scene) -> torch.Tensor:
    """Return the log of what a gate expects pages to have: [queries, kv_heads, pages]."""
    turned, spreading = aimed(gates, layer, scene.queries)
    return log_shares(gated_scores(turned, spreading, scene.summary), scene.is_candidate)


def loss(gates: Gates, layer: int, scene: Scene) -> torch.Tensor:
    """Return the mean divergence of a gate from the attention among candidates, in nats."""
    wanted = scene.masses * scene.is_candidate[:, None]
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp(min=_LEAST)
    found = predicted(gates, layer, scene).masked_fill(~scene.is_candidate[:, None], 0.0)
    return (wanted * (wanted.clamp(min=_LEAST).log() - found)).sum(-1).mean()


@torch.no_grad()
def recall(gates: Gates, layer: int, scene: Scene, pages: int) -> float:
    """Return the share of the candidates' attention that the best `pages` of a gate have."""
    wanted = scene.masses * scene.is_candidate[:, None]
    best = predicted(gates, layer, scene).topk(min(pages, wanted.shape[-1]), -1).indices
    return float((wanted.gather(-1, best).sum(-1) / wanted.sum(-1).clamp(min=_LEAST)).mean())


def learned(
    config: ModelConfig,
    weights: Weights,
    texts: torch.Tensor,
    rounds: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Gates:
    """Return gates taught by `texts` ([texts, tokens] int64), `rounds` times over."""
    sizes = (config.layers, config.kv_heads, config.head_size)
    begun = Gates.of_means(*sizes)
    gates = Gates(begun.turns.requires_grad_(), begun.weights.requires_grad_())
    rates = ((gates.turns, _TURN_RATE), (gates.weights, _WEIGHT_RATE))
    optimizer = torch.optim.Adam([{"params": [one], "lr": rate} for one, rate in rates])
    total = rounds * len(texts)
    for done in range(total):
        for layer, scene in enumerate(
            scenes(config, weights, texts[done % len(texts)], seed + done)
        ):
            torch.autograd.backward(loss(gates, layer, scene))
        for group, (_, rate) in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - done / total)
        optimizer.step()
        optimizer.zero_grad()
        progress(done + 1, total)
    return Gates(gates.turns.detach(), gates.weights.detach())


def recalls(
    config: ModelConfig, weights: Weights, gates: Gates, texts: torch.Tensor, pages: int
) -> list[float]:
    """Return each layer's mean recall on `texts`."""
    found = [
        [
            recall(gates, layer, scene, pages)
            for layer, scene in enumerate(scenes(config, weights, text, 1_000_000 + index))
        ]
        for index, text in enumerate(texts)
    ]
    return torch.tensor(found).mean(0).tolist()
