"""Rows times a matrix on the matrix units: a tile of weights is unpacked for many rows."""

from __future__ import annotations

import triton
import triton.language as tl

from services.inference.kernels.triton.gemv import silu


@triton.jit
def weights_of(codes, scales, mins, n, k, byte, mask, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
               GROUP: tl.constexpr, SCALED: tl.constexpr, HAS_MIN: tl.constexpr):  # fmt: skip
    """Return (codes as stored, scales, minimums) of [outputs, columns]."""
    stored = tl.load(codes + n[:, None] * WIDTH + byte[None, :], mask, 0.0)
    scale, least = 1.0, 0.0
    if SCALED:
        at = n[:, None] * (COLUMNS // GROUP) + (k // GROUP)[None, :]
        scale = tl.load(scales + at, mask, 0.0).to(tl.float32)
        if HAS_MIN:
            least = tl.load(mins + at, mask, 0.0).to(tl.float32)
    return stored, scale, least


@triton.jit
def rows_of(x, g, m, m_mask, k, k_mask, COLUMNS: tl.constexpr, NORM: tl.constexpr):
    """Return [rows, columns] of x, times the norm's weight, and the sum of its squares."""
    tile = tl.load(x + m[:, None] * COLUMNS + k[None, :], m_mask[:, None] & k_mask[None, :], 0.0)
    tile = tile.to(tl.float32)
    total = tl.sum(tile * tile, 1)
    if NORM:
        tile *= tl.load(g + k, k_mask, 0.0)[None, :]
    return tile, total


@triton.jit
def tile_part(acc, total, x, g, codes, scales, mins, m, m_mask, n, n_mask, start,
              COLUMNS: tl.constexpr, GROUP: tl.constexpr, KIND: tl.constexpr,
              HAS_MIN: tl.constexpr, NORM: tl.constexpr, TYPE: tl.constexpr,
              BLOCK_K: tl.constexpr):  # fmt: skip
    """Add `BLOCK_K` columns to a tile: [rows, outputs] `acc` and [rows] `total`."""
    if KIND == 4:
        # Byte i of a block holds weights i and i + 16.
        byte = start // 2 + tl.arange(0, BLOCK_K // 2)
        low = (byte // 16) * 32 + byte % 16
        k_mask = byte < COLUMNS // 2
        mask = n_mask[:, None] & k_mask[None, :]
        stored, scale, least = weights_of(codes, scales, mins, n, low, byte, mask, COLUMNS,
                                          COLUMNS // 2, GROUP, True, HAS_MIN)  # fmt: skip
        offset = 0.0 if HAS_MIN else 8.0
        for half in tl.static_range(2):
            tile, squares = rows_of(x, g, m, m_mask, low + 16 * half, k_mask, COLUMNS, NORM)
            total += squares
            code = ((stored >> (4 * half)) & 15).to(tl.float32)
            weight = (code - offset) * scale + least
            acc = tl.dot(tile.to(TYPE), tl.trans(weight.to(TYPE)), acc, input_precision="ieee")
    else:
        k = start + tl.arange(0, BLOCK_K)
        k_mask = k < COLUMNS
        mask = n_mask[:, None] & k_mask[None, :]
        stored, scale, least = weights_of(codes, scales, mins, n, k, k, mask, COLUMNS, COLUMNS,
                                          GROUP, KIND == 8, HAS_MIN)  # fmt: skip
        tile, squares = rows_of(x, g, m, m_mask, k, k_mask, COLUMNS, NORM)
        total += squares
        weight = stored.to(tl.float32) * scale + least
        acc = tl.dot(tile.to(TYPE), tl.trans(weight.to(TYPE)), acc, input_precision="ieee")
    return acc, total


@triton.jit
def gemm_kernel(x, g, codes, scales, mins, bias, residual, out, parts, arrived, rows, outputs,
                epsilon, COLUMNS: tl.constexpr, GROUP: tl.constexpr, KIND: tl.constexpr,
                HAS_MIN: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr,
                RESIDUAL: tl.constexpr, GATED: tl.constexpr, TYPE: tl.constexpr,
                BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
                SPLIT: tl.constexpr):  # fmt: skip
    """A tile of rows times outputs on the matrix units; grid (tiles of N, of M, SPLIT)."""
    tile, band, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    m = band * BLOCK_M + tl.arange(0, BLOCK_M)
    n_mask, m_mask = n < outputs, m < rows
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    up = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    total, ignored = tl.zeros([BLOCK_M], tl.float32), tl.zeros([BLOCK_M], tl.float32)
    for start in range(split * BLOCK_K, COLUMNS, BLOCK_K * SPLIT):
        acc, total = tile_part(acc, total, x, g, codes, scales, mins, m, m_mask, n, n_mask, start,
                               COLUMNS, GROUP, KIND, HAS_MIN, NORM, TYPE, BLOCK_K)  # fmt: skip
        if GATED:
            up, ignored = tile_part(up, ignored, x, g, codes, scales, mins, m, m_mask, n + outputs,
                                    n_mask, start, COLUMNS, GROUP, KIND, HAS_MIN, NORM, TYPE,
                                    BLOCK_K)  # fmt: skip
    at = m[:, None] * outputs + n[None, :]
    mask = m_mask[:, None] & n_mask[None, :]
    last = True
    if SPLIT > 1:
        size = rows * outputs
        tl.store(parts + split * size + at, acc, mask)
        tl.debug_barrier()
        counter = arrived + band * tl.num_programs(0) + tile
        last = tl.atomic_add(counter, 1) == SPLIT - 1
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        if last:
            for index in range(SPLIT):
                acc += tl.load(parts + index * size + at, mask, 0.0, cache_modifier=".cg")
            tl.store(counter, 0)
    if NORM:
        inverse = (1.0 / tl.sqrt(total / COLUMNS + epsilon))[:, None]
        acc, up = acc * inverse, up * inverse
    if BIAS:
        acc += tl.load(bias + n, n_mask, 0.0)[None, :]
    if GATED:
        acc = silu(acc) * up
    if last:
        if RESIDUAL:
            acc += tl.load(residual + at, mask, 0.0).to(tl.float32)
        tl.store(out + at, acc.to(out.dtype.element_ty), mask)
