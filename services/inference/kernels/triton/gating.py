"""Scores of learned gates on a device; `kernels.gates` says what they mean."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.cache import PAGE, LayerCache

_PAGES = 8
"""Pages that one program scores, twice as many halves."""


@triton.jit
def summary_kernel(keys, key_scales, means, spreads, SIZE: tl.constexpr, PAGE: tl.constexpr,
                   WHOLE: tl.constexpr):  # fmt: skip
    """Half a page of one head; grid (pages, 2, kv_heads)."""
    page, half, lane = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = page.to(tl.int64) * tl.num_programs(2) + lane
    d, token = tl.arange(0, SIZE), half * (PAGE // 2) + tl.arange(0, PAGE // 2)
    key = tl.load(keys + (at * PAGE + token[:, None]) * SIZE + d[None, :]).to(tl.float32)
    if WHOLE:
        key *= tl.load(key_scales + at * PAGE + token)[:, None]
    target = ((page.to(tl.int64) * 2 + half) * tl.num_programs(2) + lane) * SIZE + d
    tl.store(means + target, tl.sum(key, 0) / (PAGE // 2))
    tl.store(spreads + target, (tl.max(key, 0) - tl.min(key, 0)) / 2)


@triton.jit
def gated_scores_kernel(turned, spreading, means, spreads, tables, scores, width,
                        KV_HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,
                        BLOCK: tl.constexpr):  # fmt: skip
    """`BLOCK` pages of one row and head; grid (rows, kv_heads, blocks of pages)."""
    row, lane, block = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    d, half = tl.arange(0, SIZE), block * BLOCK * 2 + tl.arange(0, BLOCK * 2)
    there = half < width * 2
    page = tl.load(tables + row * width + half // 2, there, 0).to(tl.int64)
    at = ((page * 2 + half % 2) * KV_HEADS + lane)[:, None] * SIZE + d[None, :]
    mean = tl.load(means + at, there[:, None], 0.0)
    spread = tl.load(spreads + at, there[:, None], 0.0)
    for member in range(GROUP):
        head = (row * KV_HEADS + lane) * GROUP + member
        aim = tl.load(turned + head * SIZE + d)[None, :]
        wide = tl.load(spreading + head * SIZE + d)[None, :]
        score = tl.sum(aim * mean + wide * spread, 1)
        tl.store(scores + head * width * 2 + half, score, there)


def summaries(cache: LayerCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Return means and spreads of all half pages: [pages, 2, kv_heads, size] float32."""
    pages, kv_heads, _, size = cache.keys.shape
    means = torch.empty(pages, 2, kv_heads, size, dtype=torch.float32, device=cache.keys.device)
    spreads = torch.empty_like(means)
    summary_kernel[pages, 2, kv_heads](
        cache.keys,
        cache.key_scales,
        means,
        spreads,
        SIZE=size,
        PAGE=PAGE,
        WHOLE=cache.is_int8,
        num_warps=1,
    )
    return means, spreads


def gated_scores(
    turned: torch.Tensor,
    spreading: torch.Tensor,
    means: torch.Tensor,
    spreads: torch.Tensor,
    tables: torch.Tensor,
) -> torch.Tensor:
    """Return the scores of the half pages of `tables` ([rows, width] int32).

    `turned` and `spreading` are [rows, kv_heads, group, size] float32 as `gates.aimed`
    gives them; the result is [rows, kv_heads, group, width, 2]. Softmax and choice are
    torch's (`gates.log_shares`), which a captured graph can hold as well.
    """
    rows, kv_heads, group, size = turned.shape
    width = tables.shape[1]
    shape = (rows, kv_heads, group, width, 2)
    scores = torch.empty(shape, dtype=torch.float32, device=turned.device)
    gated_scores_kernel[rows, kv_heads, triton.cdiv(width, _PAGES)](
        turned.contiguous(),
        spreading.contiguous(),
        means,
        spreads,
        tables,
        scores,
        width,
        KV_HEADS=kv_heads,
        GROUP=group,
        SIZE=size,
        BLOCK=_PAGES,
        num_warps=4,
    )
    return scores
