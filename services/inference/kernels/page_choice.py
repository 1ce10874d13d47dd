"""Which pages queries read, in plain torch: the oracle of `sparsity`."""

from __future__ import annotations

import torch

from services.inference.kernels.sparsity import (
    PAGE_TOKENS,
    Sparsity,
    pages_of,
    reading,
    window_start,
)

_CODES = 127.0


def pages_read(
    sparsity: Sparsity, queries: torch.Tensor, keys: torch.Tensor, positions: range, layer: int
) -> torch.Tensor:
    """Return which pages each query reads in a layer: [queries, kv_heads, pages] bool.

    `queries` is [queries, heads, head_size], one for each of `positions`,
    `keys` the whole context, [tokens, kv_heads, head_size].
    """
    kv_heads = keys.shape[1]
    read = torch.ones(len(queries), kv_heads, pages_of(keys.shape[0]), dtype=torch.bool)
    if layer >= sparsity.dense_layers:
        _choose(sparsity, queries, keys, positions, read)
    for head, window in enumerate(sparsity.head_windows[layer] if sparsity.head_windows else ()):
        if window:
            read[:, head] = True
            for index, position in enumerate(positions):
                if position >= sparsity.sparse_from:
                    start = window_start(window, position) // PAGE_TOKENS
                    read[index, head, 1 : max(start, 1)] = False
    return read


def _choose(
    sparsity: Sparsity,
    queries: torch.Tensor,
    keys: torch.Tensor,
    positions: range,
    read: torch.Tensor,
) -> None:
    """Clear those of `pages_read` that queries which choose do not read."""
    means, scales = _means(keys)
    for index, position in enumerate(positions):
        found = reading(sparsity, position)
        if found is not None:
            between = slice(1, found.candidates)
            shares = _shares(queries[index], means[between], scales[between])
            # Stable, so that of equal pages the earlier are read.
            order = shares.sort(dim=0, descending=True, stable=True).indices[found.chosen :] + 1
            read[index].scatter_(1, order.T, value=False)


def _means(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean keys of both halves of full pages as codes, and their scales.

    [pages, 2, kv_heads, head_size], and [pages, kv_heads].
    """
    pages = keys.shape[0] // PAGE_TOKENS
    full = keys[: pages * PAGE_TOKENS]
    halves = full.reshape(pages, 2, PAGE_TOKENS // 2, *keys.shape[1:]).mean(2)
    largest = halves.abs().amax(dim=(1, 3))
    codes = (halves * _inverse(largest)[:, None, :, None]).round()
    return codes, largest / _CODES


def _shares(query: torch.Tensor, means: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return what pages have of the attention of one position to the means.

    `query` is [heads, head_size]; returns [pages, kv_heads], the heads that
    share keys added up.
    """
    pages, kv_heads = scales.shape
    grouped = query.reshape(kv_heads, -1, query.shape[1]) * query.shape[1] ** -0.5
    largest = grouped.abs().amax(-1)
    codes = (grouped * _inverse(largest)[..., None]).round()
    products = torch.einsum("phkc,kgc->phkg", means, codes)
    scores = products * (largest / _CODES) * scales[:, None, :, None]
    shares: torch.Tensor = scores.flatten(0, 1).softmax(0)
    return shares.view(pages, 2, kv_heads, -1).sum(dim=(1, 3))


def _inverse(largest: torch.Tensor) -> torch.Tensor:
    return torch.where(largest > 0, _CODES / largest, 0.0)
