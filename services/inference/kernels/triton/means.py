"""The mean keys of half pages: kept as pages fill, and scored for the choice of pages."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.cache import INT8_HIGHEST, PAGE, LayerCache
from services.inference.kernels.triton.places import Places
from services.inference.kernels.triton.scaled import rounded

_PAGES = 16
"""Pages that one program scores, twice as many halves."""


@triton.jit
def means_kernel(keys, key_scales, means, mean_scales, positions, sequences, tables, table_width,
                 pages, HIGHEST: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr,
                 WHOLE: tl.constexpr):  # fmt: skip
    """One row, which may fill a page; grid (rows, kv_heads, layers)."""
    row, lane, layer = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_heads = tl.num_programs(1)
    position, sequence = tl.load(positions + row), tl.load(sequences + row)
    if (sequence >= 0) & (position % PAGE == PAGE - 1):
        page = tl.load(tables + sequence.to(tl.int64) * table_width + position // PAGE)
        page = layer.to(tl.int64) * pages + page
        at = page * kv_heads + lane
        d, token = tl.arange(0, SIZE), tl.arange(0, PAGE)
        key = tl.load(keys + (at * PAGE + token[:, None]) * SIZE + d[None, :]).to(tl.float32)
        if WHOLE:
            key *= tl.load(key_scales + at * PAGE + token)[:, None]
        early = token[:, None] < PAGE // 2
        first = tl.sum(tl.where(early, key, 0.0), 0) / (PAGE // 2)
        second = tl.sum(tl.where(early, 0.0, key), 0) / (PAGE // 2)
        largest = tl.maximum(tl.max(tl.abs(first)), tl.max(tl.abs(second)))
        inverse = tl.where(largest > 0, HIGHEST / tl.maximum(largest, 1e-30), 0.0)
        target = means + (page * 2 * kv_heads + lane) * SIZE + d
        tl.store(target, rounded(first * inverse).to(tl.int8))
        tl.store(target + kv_heads * SIZE, rounded(second * inverse).to(tl.int8))
        tl.store(mean_scales + at, largest / HIGHEST)


@triton.jit
def mean_scores_kernel(queries, means, mean_scales, sequences, tables, candidates, scores, width,
                       scale, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,
                       HIGHEST: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """`BLOCK` pages of one row and head; grid (rows, kv_heads, blocks of pages)."""
    row, lane, block = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    d, half = tl.arange(0, SIZE), block * BLOCK * 2 + tl.arange(0, BLOCK * 2)
    place = half // 2
    there = (place >= 1) & (place < tl.load(candidates + row)) & (half < width * 2)
    sequence = tl.load(sequences + row).to(tl.int64)
    page = tl.load(tables + sequence * width + place, there, 0).to(tl.int64)
    at = ((page * 2 + half % 2) * KV_HEADS + lane)[:, None] * SIZE + d[None, :]
    code = tl.load(means + at, there[:, None], 0).to(tl.float32)
    worth = tl.load(mean_scales + page * KV_HEADS + lane, there, 0.0)
    for member in range(GROUP):
        head = (row * KV_HEADS + lane) * GROUP + member
        query = tl.load(queries + head * SIZE + d).to(tl.float32) * scale
        largest = tl.max(tl.abs(query))
        inverse = tl.where(largest > 0, HIGHEST / tl.maximum(largest, 1e-30), 0.0)
        # Products and sums of codes are whole numbers below 2^24: exact in any order.
        product = tl.sum(rounded(query * inverse)[None, :] * code, 1)
        score = tl.where(there, product * (largest / HIGHEST) * worth, float("-inf"))
        tl.store(scores + head * width * 2 + half, score, half < width * 2)


def summarise(cache: LayerCache, places: Places) -> None:
    """See `reference.summarise`."""
    layers, pages, kv_heads, _, size = cache.keys.shape
    means_kernel[len(places.positions), kv_heads, layers](
        cache.keys,
        cache.key_scales,
        cache.means,
        cache.mean_scales,
        places.positions,
        places.sequences,
        places.tables,
        places.tables.shape[1],
        pages,
        HIGHEST=INT8_HIGHEST,
        SIZE=size,
        PAGE=PAGE,
        WHOLE=cache.is_int8,
        num_warps=1,
    )


def mean_scores(
    queries: torch.Tensor, cache: LayerCache, places: Places, candidates: torch.Tensor
) -> torch.Tensor:
    """See `reference.mean_scores`."""
    rows, heads, size = queries.shape
    kv_heads, width = cache.keys.shape[1], places.tables.shape[1]
    scores = torch.empty(rows, kv_heads, heads // kv_heads, 2 * width, device=queries.device)
    mean_scores_kernel[rows, kv_heads, triton.cdiv(width, _PAGES)](
        queries,
        cache.means,
        cache.mean_scales,
        places.sequences,
        places.tables,
        candidates,
        scores,
        width,
        size**-0.5,
        KV_HEADS=kv_heads,
        GROUP=heads // kv_heads,
        SIZE=size,
        HIGHEST=INT8_HIGHEST,
        BLOCK=_PAGES,
        num_warps=4,
    )
    return scores
