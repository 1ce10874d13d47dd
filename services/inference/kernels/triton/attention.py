"""Attention over paged keys and values, dense or over chosen pages.

Decoding: a program reads `RANGE` tokens of one sequence and one key-value head
for all query heads that share it, whatever pages they lie in. The program that
is last to finish a sequence merges the parts of all in their order (the idea of
Flash-Decoding, with the merge in the same launch), so the bits of a row depend
on its own sequence alone. A list of pages makes it sparse; without one, every
page is read.

Prompts: a program takes up to 64 rows of one sequence and one query head, and
goes over blocks of four pages, all or those listed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.cache import PAGE, LayerCache
from services.inference.kernels.triton.parts import RANGE, DecodeMemory, padded, splits
from services.inference.kernels.triton.places import QUERIES, Places, Tiles

_BLOCK = 64
_LOG2E = 1.4426950408889634


@triton.jit
def attended(query, keys, values, key_scales, value_scales, slots, mask, d, best, weight, acc,
             SIZE: tl.constexpr, WHOLE: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Take [tokens] `slots` into an online softmax over [queries, tokens].

    `mask` is [queries, tokens] or [1, tokens]; `best` [queries] the highest score so
    far in units of log 2, `weight` the sum of weights, `acc` that of weighted values.
    """
    there = slots >= 0
    at = tl.where(there, slots, 0).to(tl.int64)
    key = tl.load(keys + at[:, None] * SIZE + d[None, :], there[:, None], 0.0)
    scores = tl.dot(query, tl.trans(key.to(TYPE)), input_precision="ieee")
    if WHOLE:
        scores *= tl.load(key_scales + at, there, 0.0)[None, :]
    scores = tl.where(mask & there[None, :], scores, float("-inf"))
    higher = tl.maximum(best, tl.max(scores, 1))
    # A row that has seen nothing yet stays at -inf, and -inf - -inf is no number.
    safe = tl.where(higher == float("-inf"), 0.0, higher)
    share = tl.exp2(scores - safe[:, None])
    fade = tl.exp2(best - safe)
    value = tl.load(values + at[:, None] * SIZE + d[None, :], there[:, None], 0.0)
    weight = weight * fade + tl.sum(share, 1)
    if WHOLE:
        share *= tl.load(value_scales + at, there, 0.0)[None, :]
    added = tl.dot(share.to(TYPE), value.to(TYPE), input_precision="ieee")
    return higher, weight, acc * fade[:, None] + added


@triton.jit
def decode_kernel(queries, keys, values, key_scales, value_scales, positions, sequences, tables,
                  selected, parts, bests, weights, arrived, out, table_width, listed, scale,
                  HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr,
                  PAGE: tl.constexpr, SPARSE: tl.constexpr, WHOLE: tl.constexpr,
                  GROUP: tl.constexpr, ROWS: tl.constexpr, RANGE: tl.constexpr,
                  BLOCK: tl.constexpr, SPLITS: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Grid (rows, key-value heads, SPLITS)."""
    row, lane, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    sequence = tl.load(sequences + row)
    length = tl.load(positions + row) + 1
    length = tl.where(sequence >= 0, length, 0)
    pages = tl.cdiv(length, PAGE)
    if SPARSE:
        pages = tl.minimum(pages, listed)
    needed = tl.maximum(tl.cdiv(pages * PAGE, RANGE), 1)
    if split >= needed:
        return
    d, group = tl.arange(0, SIZE), tl.arange(0, ROWS)
    head = lane * GROUP + group
    lanes = group < GROUP
    base = row.to(tl.int64) * HEADS
    query = tl.load(queries + (base + head[:, None]) * SIZE + d[None, :], lanes[:, None], 0.0)
    query = (query.to(tl.float32) * scale).to(TYPE)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    weight, acc = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, SIZE], tl.float32)
    stop = tl.minimum((split + 1) * RANGE, pages * PAGE)
    for start in range(split * RANGE, stop, BLOCK):
        token = start + tl.arange(0, BLOCK)
        place = token // PAGE
        there = place < pages
        if SPARSE:
            at = (row * KV_HEADS + lane) * listed + place
            place = tl.load(selected + at, there, -1)
        token = place * PAGE + token % PAGE
        there = there & (place >= 0) & (token < length)
        page = tl.load(tables + sequence.to(tl.int64) * table_width + place, there, 0)
        slots = (page.to(tl.int64) * KV_HEADS + lane) * PAGE + token % PAGE
        slots = tl.where(there, slots, -1)
        best, weight, acc = attended(query, keys, values, key_scales, value_scales, slots,
                                     there[None, :], d, best, weight, acc, SIZE, WHOLE,
                                     TYPE)  # fmt: skip
    last = True
    if needed > 1:
        at = ((row * KV_HEADS + lane) * SPLITS + split) * ROWS + group
        tl.store(bests + at, best)
        tl.store(weights + at, weight)
        tl.store(parts + at[:, None].to(tl.int64) * SIZE + d[None, :], acc)
        tl.debug_barrier()
        last = tl.atomic_add(arrived + row * KV_HEADS + lane, 1) == needed - 1
        if last:
            tl.store(arrived + row * KV_HEADS + lane, 0)
            weight, acc = merged(parts, bests, weights, (row * KV_HEADS + lane) * SPLITS, needed,
                                 group, d, ROWS, SIZE)  # fmt: skip
    if last:
        result = acc / tl.where(weight > 0, weight, 1.0)[:, None]
        at = (base + head[:, None]) * SIZE + d[None, :]
        tl.store(out + at, result.to(out.dtype.element_ty), lanes[:, None])


@triton.jit
def merged(parts, bests, weights, first, count, group, d, ROWS: tl.constexpr,
           SIZE: tl.constexpr):  # fmt: skip
    """Return (sum of weights, sum of weighted values) of `count` parts, in order."""
    best = tl.full([ROWS], float("-inf"), tl.float32)
    weight, acc = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, SIZE], tl.float32)
    for index in range(count):
        at = (first + index) * ROWS + group
        other = tl.load(bests + at, cache_modifier=".cg")
        higher = tl.maximum(best, other)
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        fade, share = tl.exp2(best - safe), tl.exp2(other - safe)
        weight = weight * fade + share * tl.load(weights + at, cache_modifier=".cg")
        part = parts + at[:, None].to(tl.int64) * SIZE + d[None, :]
        acc = acc * fade[:, None] + share[:, None] * tl.load(part, cache_modifier=".cg")
        best = higher
    return weight, acc


@triton.jit
def prefill_kernel(queries, keys, values, key_scales, value_scales, positions, sequences, tables,
                   rows, counts, selected, out, table_width, listed, scale, HEADS: tl.constexpr,
                   KV_HEADS: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr,
                   SPARSE: tl.constexpr, WHOLE: tl.constexpr, QUERIES: tl.constexpr,
                   BLOCK: tl.constexpr, TYPE: tl.constexpr):  # fmt: skip
    """Grid (tiles, query heads)."""
    tile, head = tl.program_id(0), tl.program_id(1)
    first, count = tl.load(rows + tile), tl.load(counts + tile)
    lane = head // (HEADS // KV_HEADS)
    d, offset = tl.arange(0, SIZE), tl.arange(0, QUERIES)
    row = (first + offset).to(tl.int64)
    real = offset < count
    at = (row[:, None] * HEADS + head) * SIZE + d[None, :]
    query = tl.load(queries + at, real[:, None], 0.0)
    query = (query.to(tl.float32) * scale).to(TYPE)
    position = tl.load(positions + row, real, -1)
    sequence = tl.load(sequences + first).to(tl.int64)
    length = tl.max(position) + 1
    blocks = tl.cdiv(length, BLOCK)
    if SPARSE:
        blocks = listed
    best = tl.full([QUERIES], float("-inf"), tl.float32)
    weight, acc = tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES, SIZE], tl.float32)
    for index in range(blocks):
        block = index
        if SPARSE:
            block = tl.load(selected + (tile * KV_HEADS + lane) * listed + index)
        token = block * BLOCK + tl.arange(0, BLOCK)
        there = (block >= 0) & (token < length)
        page = tl.load(tables + sequence * table_width + token // PAGE, there, 0)
        slots = (page.to(tl.int64) * KV_HEADS + lane) * PAGE + token % PAGE
        slots = tl.where(there, slots, -1)
        best, weight, acc = attended(query, keys, values, key_scales, value_scales, slots,
                                     token[None, :] <= position[:, None], d, best, weight, acc,
                                     SIZE, WHOLE, TYPE)  # fmt: skip
    result = acc / tl.where(weight > 0, weight, 1.0)[:, None]
    tl.store(out + at, result.to(out.dtype.element_ty), real[:, None])


def attend(
    queries: torch.Tensor,
    cache: LayerCache,
    places: Places,
    selected: torch.Tensor | None = None,
    memory: DecodeMemory | None = None,
) -> torch.Tensor:
    """See `reference.attend`. `memory` is what a captured graph keeps between its launches."""
    rows, heads, size = queries.shape
    kv_heads = cache.keys.shape[1]
    pages = places.tables.shape[1] if selected is None else selected.shape[2]
    memory = memory or DecodeMemory(rows, heads, kv_heads, size, pages, queries.device)
    out = queries.new_empty(rows, heads * size)
    decode_kernel[rows, kv_heads, splits(pages)](
        queries,
        *_cached(cache),
        places.positions,
        places.sequences,
        places.tables,
        places.tables if selected is None else selected,
        memory.parts,
        memory.bests,
        memory.weights,
        memory.arrived,
        out,
        places.tables.shape[1],
        pages,
        size**-0.5 * _LOG2E,
        HEADS=heads,
        KV_HEADS=kv_heads,
        SIZE=size,
        PAGE=PAGE,
        SPARSE=selected is not None,
        WHOLE=cache.is_int8,
        GROUP=heads // kv_heads,
        ROWS=padded(heads // kv_heads),
        RANGE=RANGE,
        BLOCK=_BLOCK,
        SPLITS=splits(pages),
        TYPE=_type(queries),
        num_warps=4,
    )
    return out


def attend_tiles(
    queries: torch.Tensor,
    cache: LayerCache,
    places: Places,
    tiles: Tiles,
    selected: torch.Tensor | None = None,
) -> torch.Tensor:
    """See `reference.attend_tiles`."""
    rows, heads, size = queries.shape
    out = queries.new_zeros(rows, heads * size)
    prefill_kernel[tiles.rows.shape[0], heads](
        queries,
        *_cached(cache),
        places.positions,
        places.sequences,
        places.tables,
        tiles.rows,
        tiles.counts,
        tiles.rows if selected is None else selected,
        out,
        places.tables.shape[1],
        0 if selected is None else selected.shape[2],
        size**-0.5 * _LOG2E,
        HEADS=heads,
        KV_HEADS=cache.keys.shape[1],
        SIZE=size,
        PAGE=PAGE,
        SPARSE=selected is not None,
        WHOLE=cache.is_int8,
        QUERIES=QUERIES,
        BLOCK=_BLOCK,
        TYPE=_type(queries),
        num_warps=4,
    )
    return out


def _cached(cache: LayerCache) -> tuple[torch.Tensor, ...]:
    return cache.keys, cache.values, cache.key_scales, cache.value_scales


def _type(queries: torch.Tensor) -> tl.dtype:
    """Return what the matrix units multiply: as the queries, bfloat16 for float32."""
    if queries.device.type == "cpu":
        return tl.float32
    return tl.float16 if queries.dtype == torch.float16 else tl.bfloat16
