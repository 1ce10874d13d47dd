"""One row times a matrix: every weight is read once and used once, as float32."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def silu(x):
    """Return x * sigmoid(x)."""
    return x / (1.0 + tl.exp(-x))


@triton.jit
def row_of_words(acc, total, x_row, g, codes, scales, mins, n, n_mask, start,
                 COLUMNS: tl.constexpr, GROUP: tl.constexpr, HAS_MIN: tl.constexpr,
                 NORM: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """Add `BLOCK_K` four-bit columns to [outputs] `acc`, and squares of x to `total`.

    A word holds bytes 4i to 4i + 3 of a block: eight weights.
    """
    word = start // 8 + tl.arange(0, BLOCK_K // 8)
    first = (word // 4) * 32 + (word % 4) * 4
    w_mask = word < COLUMNS // 8
    mask = n_mask[:, None] & w_mask[None, :]
    packed = tl.load(codes + n[:, None] * (COLUMNS // 8) + word[None, :], mask, 0.0)
    at = n[:, None] * (COLUMNS // GROUP) + (first // GROUP)[None, :]
    scale = tl.load(scales + at, mask, 0.0).to(tl.float32)
    product = tl.zeros_like(scale)
    plain = tl.zeros([BLOCK_K // 8], tl.float32)
    for part in tl.static_range(8):
        k = first + part % 4 + 16 * (part // 4)
        x = tl.load(x_row + k, w_mask, 0.0).to(tl.float32)
        total += tl.sum(x * x)
        if NORM:
            x *= tl.load(g + k, w_mask, 0.0)
        code = (packed >> (8 * (part % 4) + 4 * (part // 4))) & 15
        product += code.to(tl.float32) * x[None, :]
        plain += x
    if HAS_MIN:
        least = tl.load(mins + at, mask, 0.0).to(tl.float32)
        return acc + tl.sum(product * scale + least * plain[None, :], 1), total
    return acc + tl.sum((product - 8.0 * plain[None, :]) * scale, 1), total


@triton.jit
def row_of_bytes(acc, total, x_row, g, codes, scales, mins, n, n_mask, start,
                 COLUMNS: tl.constexpr, GROUP: tl.constexpr, SCALED: tl.constexpr,
                 HAS_MIN: tl.constexpr, NORM: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """As `row_of_words`, for columns of a byte or more."""
    k = start + tl.arange(0, BLOCK_K)
    k_mask = k < COLUMNS
    mask = n_mask[:, None] & k_mask[None, :]
    x = tl.load(x_row + k, k_mask, 0.0).to(tl.float32)
    total += tl.sum(x * x)
    if NORM:
        x *= tl.load(g + k, k_mask, 0.0)
    weight = tl.load(codes + n[:, None] * COLUMNS + k[None, :], mask, 0.0).to(tl.float32)
    if SCALED:
        at = n[:, None] * (COLUMNS // GROUP) + (k // GROUP)[None, :]
        weight *= tl.load(scales + at, mask, 0.0).to(tl.float32)
        if HAS_MIN:
            weight += tl.load(mins + at, mask, 0.0).to(tl.float32)
    return acc + tl.sum(weight * x[None, :], 1), total


@triton.jit
def row_part(acc, total, x_row, g, codes, scales, mins, n, n_mask, start,
             COLUMNS: tl.constexpr, GROUP: tl.constexpr, KIND: tl.constexpr,
             HAS_MIN: tl.constexpr, NORM: tl.constexpr, BLOCK_K: tl.constexpr):  # fmt: skip
    """Add a block of columns of any kind."""
    if KIND == 4:
        acc, total = row_of_words(acc, total, x_row, g, codes, scales, mins, n, n_mask, start,
                                  COLUMNS, GROUP, HAS_MIN, NORM, BLOCK_K)  # fmt: skip
    else:
        acc, total = row_of_bytes(acc, total, x_row, g, codes, scales, mins, n, n_mask, start,
                                  COLUMNS, GROUP, KIND == 8, HAS_MIN, NORM, BLOCK_K)  # fmt: skip
    return acc, total


@triton.jit
def gemv_kernel(x, g, codes, scales, mins, bias, residual, out, parts, arrived, outputs, epsilon,
                COLUMNS: tl.constexpr, GROUP: tl.constexpr, KIND: tl.constexpr,
                HAS_MIN: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr,
                RESIDUAL: tl.constexpr, GATED: tl.constexpr, BLOCK_N: tl.constexpr,
                BLOCK_K: tl.constexpr, SPLIT: tl.constexpr):  # fmt: skip
    """One row times `BLOCK_N` outputs; grid (tiles, rows, SPLIT)."""
    tile, row, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    n_mask = n < outputs
    x_row = x + row * COLUMNS
    acc, up = tl.zeros([BLOCK_N], tl.float32), tl.zeros([BLOCK_N], tl.float32)
    total, ignored = 0.0, 0.0
    for start in range(split * BLOCK_K, COLUMNS, BLOCK_K * SPLIT):
        acc, total = row_part(acc, total, x_row, g, codes, scales, mins, n, n_mask, start,
                              COLUMNS, GROUP, KIND, HAS_MIN, NORM, BLOCK_K)  # fmt: skip
        if GATED:
            up, ignored = row_part(up, ignored, x_row, g, codes, scales, mins, n + outputs, n_mask,
                                   start, COLUMNS, GROUP, KIND, HAS_MIN, NORM, BLOCK_K)  # fmt: skip
    at = row * outputs + n
    last = True
    if SPLIT > 1:
        size = tl.num_programs(1) * outputs
        tl.store(parts + split * size + at, acc, n_mask)
        tl.debug_barrier()
        counter = arrived + row * tl.num_programs(0) + tile
        last = tl.atomic_add(counter, 1) == SPLIT - 1
        acc = tl.zeros([BLOCK_N], tl.float32)
        if last:
            for index in range(SPLIT):
                acc += tl.load(parts + index * size + at, n_mask, 0.0, cache_modifier=".cg")
            tl.store(counter, 0)
    if NORM:
        inverse = 1.0 / tl.sqrt(total / COLUMNS + epsilon)
        acc, up = acc * inverse, up * inverse
    if BIAS:
        acc += tl.load(bias + n, n_mask, 0.0)
    if GATED:
        acc = silu(acc) * up
    if last:
        if RESIDUAL:
            acc += tl.load(residual + at, n_mask, 0.0).to(tl.float32)
        tl.store(out + at, acc.to(out.dtype.element_ty), n_mask)
