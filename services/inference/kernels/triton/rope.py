"""Rotary positions, head norms and the write to the cache, in one kernel.

One program takes one head's vector of one row, so that everything there is to
know of it (its norm, its scale in eight bits) is known in registers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.cache import INT8_HIGHEST, PAGE, LayerCache
from services.inference.kernels.triton.places import Heads, Places
from services.inference.kernels.triton.scaled import rounded


@triton.jit
def turned(row, d, norm, cosine, sine, half, epsilon, NORM: tl.constexpr, SIZE: tl.constexpr):
    """Return a vector of `SIZE`, normalised and rotated."""
    partner = tl.where(d < half, d + half, d - half)
    sign = tl.where(d < half, -1.0, 1.0)
    x = tl.load(row + d).to(tl.float32)
    y = tl.load(row + partner).to(tl.float32)
    if NORM:
        inverse = 1.0 / tl.sqrt(tl.sum(x * x) / SIZE + epsilon)
        x = x * inverse * tl.load(norm + d)
        y = y * inverse * tl.load(norm + partner)
    return x * cosine + sign * y * sine


@triton.jit
def stored(target, scales, slot, d, vector, HIGHEST: tl.constexpr, WHOLE: tl.constexpr,
           SIZE: tl.constexpr):  # fmt: skip
    """Write a vector to its place in the cache."""
    if WHOLE:
        scale = tl.maximum(tl.max(tl.abs(vector)) / HIGHEST, 1e-12)
        vector = rounded(vector / scale)
        tl.store(scales + slot, scale)
    tl.store(target + slot * SIZE + d, vector.to(target.dtype.element_ty))


@triton.jit
def rotate_kernel(joined, queries, keys, values, key_scales, value_scales, positions, sequences,
                  tables, frequencies, query_norm, key_norm, table_width, epsilon,
                  HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr,
                  PAGE: tl.constexpr, HIGHEST: tl.constexpr, NORM: tl.constexpr,
                  WHOLE: tl.constexpr):  # fmt: skip
    """Grid (rows, query, key and value heads)."""
    row, head = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, SIZE)
    half = SIZE // 2
    vector = joined + row.to(tl.int64) * (HEADS + 2 * KV_HEADS) * SIZE + head * SIZE
    position = tl.load(positions + row)
    angle = position.to(tl.float32) * tl.load(frequencies + d % half)
    cosine, sine = tl.cos(angle), tl.sin(angle)
    if head < HEADS:
        turn = turned(vector, d, query_norm, cosine, sine, half, epsilon, NORM, SIZE)
        out = queries + (row.to(tl.int64) * HEADS + head) * SIZE + d
        tl.store(out, turn.to(queries.dtype.element_ty))
    else:
        sequence = tl.load(sequences + row)
        if sequence >= 0:
            page = tl.load(tables + sequence.to(tl.int64) * table_width + position // PAGE)
            lane = (head - HEADS) % KV_HEADS
            slot = (page.to(tl.int64) * KV_HEADS + lane) * PAGE + position % PAGE
            if head < HEADS + KV_HEADS:
                turn = turned(vector, d, key_norm, cosine, sine, half, epsilon, NORM, SIZE)
                stored(keys, key_scales, slot, d, turn, HIGHEST, WHOLE, SIZE)
            else:
                plain = tl.load(vector + d).to(tl.float32)
                stored(values, value_scales, slot, d, plain, HIGHEST, WHOLE, SIZE)


def rotate_and_store(
    joined: torch.Tensor, cache: LayerCache, places: Places, heads: Heads
) -> torch.Tensor:
    """See `reference.rotate_and_store`. `head_size` must be a power of two."""
    rows = joined.shape[0]
    queries = joined.new_empty(rows, heads.heads, heads.head_size)
    rotate_kernel[rows, heads.heads + 2 * heads.kv_heads](
        joined,
        queries,
        cache.keys,
        cache.values,
        cache.key_scales,
        cache.value_scales,
        places.positions,
        places.sequences,
        places.tables,
        heads.inverse_frequencies,
        joined if heads.query_norm is None else heads.query_norm,
        joined if heads.key_norm is None else heads.key_norm,
        places.tables.shape[1],
        heads.epsilon,
        HEADS=heads.heads,
        KV_HEADS=heads.kv_heads,
        SIZE=heads.head_size,
        PAGE=PAGE,
        HIGHEST=INT8_HIGHEST,
        NORM=heads.query_norm is not None,
        WHOLE=cache.is_int8,
        num_warps=1,
    )
    return queries
