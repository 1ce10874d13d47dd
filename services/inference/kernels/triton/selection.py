"""Which pages of a sequence are worth reading: bounds, scores and the best.

All sizes are fixed by the tables' width, lists are padded with -1, and nothing
is read back, so that choosing can be part of a captured graph.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.cache import PAGE, LayerCache

_PAGES = 16
"""Pages that one program scores."""


@triton.jit
def bounds_kernel(keys, key_scales, lower, upper, SIZE: tl.constexpr, PAGE: tl.constexpr,
                  WHOLE: tl.constexpr):  # fmt: skip
    """One page of one head; grid (pages, kv_heads)."""
    at = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    d, token = tl.arange(0, SIZE), tl.arange(0, PAGE)
    key = tl.load(keys + (at * PAGE + token[:, None]) * SIZE + d[None, :]).to(tl.float32)
    if WHOLE:
        key *= tl.load(key_scales + at * PAGE + token)[:, None]
    tl.store(lower + at * SIZE + d, tl.min(key, 0))
    tl.store(upper + at * SIZE + d, tl.max(key, 0))


@triton.jit
def scores_kernel(queries, lower, upper, tables, counts, scores, width, KV_HEADS: tl.constexpr,
                  GROUP: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """`BLOCK` pages of one row and head; grid (rows, kv_heads, blocks of pages)."""
    row, lane, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    d, place = tl.arange(0, SIZE), block * BLOCK + tl.arange(0, BLOCK)
    there = place < tl.minimum(tl.load(counts + row), width)
    page = tl.load(tables + row.to(tl.int64) * width + place, there, 0).to(tl.int64)
    at = (page * KV_HEADS + lane)[:, None] * SIZE + d[None, :]
    low = tl.load(lower + at, there[:, None], 0.0)
    high = tl.load(upper + at, there[:, None], 0.0)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    for member in range(GROUP):
        head = (row.to(tl.int64) * KV_HEADS + lane) * GROUP + member
        query = tl.load(queries + head * SIZE + d).to(tl.float32)[None, :]
        best = tl.maximum(best, tl.sum(tl.maximum(query * low, query * high), 1))
    target = scores + (row.to(tl.int64) * KV_HEADS + lane) * width + place
    tl.store(target, tl.where(there, best, float("-inf")), place < width)


def page_bounds(cache: LayerCache) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.page_bounds`."""
    pages, kv_heads, _, size = cache.keys.shape
    lower = torch.empty(pages, kv_heads, size, dtype=torch.float32, device=cache.keys.device)
    upper = torch.empty_like(lower)
    bounds_kernel[pages, kv_heads](
        cache.keys,
        cache.key_scales,
        lower,
        upper,
        SIZE=size,
        PAGE=PAGE,
        WHOLE=cache.is_int8,
        num_warps=1,
    )
    return lower, upper


def page_scores(
    queries: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    tables: torch.Tensor,
    counts: torch.Tensor,
) -> torch.Tensor:
    """See `reference.page_scores`."""
    rows, heads, size = queries.shape
    kv_heads, width = lower.shape[1], tables.shape[1]
    scores = torch.empty(rows, kv_heads, width, dtype=torch.float32, device=queries.device)
    scores_kernel[rows, kv_heads, triton.cdiv(width, _PAGES)](
        queries,
        lower,
        upper,
        tables,
        counts,
        scores,
        width,
        KV_HEADS=kv_heads,
        GROUP=heads // kv_heads,
        SIZE=size,
        BLOCK=_PAGES,
        num_warps=4,
    )
    return scores


def chosen(scores: torch.Tensor, counts: torch.Tensor, budget: int, recent: int) -> torch.Tensor:
    """See `reference.chosen`; torch's own top-k does it, which equal scores may order otherwise."""
    width = scores.shape[-1]
    pages = torch.arange(width, device=scores.device)
    is_there = pages < counts[:, None]
    is_kept = ((pages == 0) | (pages >= counts[:, None] - recent)) & is_there
    forced = scores.masked_fill(is_kept[:, None], float("inf"))
    best, order = forced.topk(min(budget, width), dim=-1)
    taken = torch.where(best > float("-inf"), order, width).sort(dim=-1).values
    return torch.where(taken < width, taken, -1).int()
