"""Rows quantised with their norm, and products of eight bits with eight bits.

For prompts and large batches, where arithmetic is the limit: a row is
normalised and rounded to int8 or FP8 in one pass, with one scale a row, and
the matrix units multiply the codes. On devices that have FP8 the product is
torch's own, `torch._scaled_mm`, which nothing of ours beats by enough to keep.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.cache import INT8_HIGHEST
from services.inference.kernels.triton.device import status
from services.inference.kernels.triton.matrix import FP8_HIGHEST, Matrix


@triton.jit
def rounded(x):
    """Return the nearest whole number, half to even: exact below 2^22."""
    magic = 12582912.0
    return (x + magic) - magic


@triton.jit
def normed_codes_kernel(x, g, codes, scales, epsilon, columns, HIGHEST: tl.constexpr,
                        NORM: tl.constexpr, ROUND: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """One row: norm, scale, codes."""
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    mask = k < columns
    values = tl.load(x + row * columns + k, mask, 0.0).to(tl.float32)
    if NORM:
        inverse = 1.0 / tl.sqrt(tl.sum(values * values) / columns + epsilon)
        values = values * inverse * tl.load(g + k, mask, 0.0)
    scale = tl.maximum(tl.max(tl.abs(values)) / HIGHEST, 1e-12)
    scaled = tl.minimum(tl.maximum(values / scale, -HIGHEST), HIGHEST)
    if ROUND:
        scaled = rounded(scaled)
    tl.store(codes + row * columns + k, scaled.to(codes.dtype.element_ty), mask)
    tl.store(scales + row, scale)


@triton.jit
def scaled_kernel(x, x_scales, codes, scales, out, rows, outputs, COLUMNS: tl.constexpr,
                  WHOLE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                  BLOCK_K: tl.constexpr):  # fmt: skip
    """A tile of rows times outputs, both of eight bits."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    m_mask, n_mask = m < rows, n < outputs
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.int32 if WHOLE else tl.float32)
    for start in range(0, COLUMNS, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        k_mask = k < COLUMNS
        a = tl.load(x + m[:, None] * COLUMNS + k, m_mask[:, None] & k_mask, 0.0)
        b = tl.load(codes + n[None, :] * COLUMNS + k[:, None], n_mask & k_mask[:, None], 0.0)
        acc = tl.dot(a, b, acc, out_dtype=tl.int32 if WHOLE else tl.float32)
    by_row = tl.load(x_scales + m, m_mask, 0.0)[:, None]
    by_output = tl.load(scales + n, n_mask, 0.0).to(tl.float32)[None, :]
    result = acc.to(tl.float32) * by_row * by_output
    at = m[:, None] * outputs + n[None, :]
    tl.store(out + at, result.to(out.dtype.element_ty), m_mask[:, None] & n_mask[None, :])


def normed_codes(
    hidden: torch.Tensor,
    dtype: torch.dtype,
    norm: torch.Tensor | None = None,
    epsilon: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `reference.normed_codes`."""
    rows, columns = hidden.shape
    codes = torch.empty(rows, columns, dtype=dtype, device=hidden.device)
    scales = torch.empty(rows, dtype=torch.float32, device=hidden.device)
    is_whole = dtype == torch.int8
    normed_codes_kernel[(rows,)](
        hidden,
        scales if norm is None else norm,
        codes,
        scales,
        epsilon,
        columns,
        HIGHEST=INT8_HIGHEST if is_whole else FP8_HIGHEST,
        NORM=norm is not None,
        ROUND=is_whole,
        BLOCK=triton.next_power_of_2(columns),
        num_warps=4 if columns <= 4096 else 8,
    )
    return codes, scales


@functools.cache
def multiplies_fp8() -> bool:
    """Tell whether the device's matrix units take FP8; asked for each product of a prompt."""
    return status().has_fp8


def scaled_linear(
    codes: torch.Tensor, scales: torch.Tensor, matrix: Matrix, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """See `reference.scaled_linear`."""
    assert matrix.scales is not None
    if matrix.kind == "fp8" and codes.is_cuda and multiplies_fp8():
        product = torch._scaled_mm(  # noqa: SLF001  # torch has no public name for it yet
            codes,
            matrix.codes.t(),
            scale_a=scales[:, None],
            scale_b=matrix.scales.view(1, -1),
            out_dtype=torch.bfloat16,
        )
        return product.to(dtype)
    return scaled_product(codes, scales, matrix, dtype)


def scaled_product(
    codes: torch.Tensor, scales: torch.Tensor, matrix: Matrix, dtype: torch.dtype
) -> torch.Tensor:
    """Multiply with our own kernel, whatever torch has."""
    assert matrix.scales is not None
    rows, outputs = codes.shape[0], matrix.outputs
    out = torch.empty(rows, outputs, dtype=dtype, device=codes.device)
    block_m = 16 if rows <= 16 else 64 if rows <= 64 else 128
    grid = (triton.cdiv(rows, block_m), triton.cdiv(outputs, 64))
    scaled_kernel[grid](
        codes,
        scales,
        matrix.codes,
        matrix.scales,
        out,
        rows,
        outputs,
        COLUMNS=matrix.inputs,
        WHOLE=codes.dtype == torch.int8,
        BLOCK_M=block_m,
        BLOCK_N=64,
        BLOCK_K=64,
        num_warps=4,
    )
    return out
