"""Products with quantised weights: one row (GEMV) and many (GEMM).

Fused around the product: the RMS norm before it, and bias, gate or residual
after it. A norm costs no pass of its own, since

    (x / rms(x) * g) @ W = ((x * g) @ W) / rms(x)

so a program sums the squares of the row beside the product. Weights are read
once, in the order of the file (`matrix`), and become numbers in registers.

Few outputs give few programs; then the inputs are cut in `SPLIT` parts. The
program of a tile that arrives last adds all parts in their order, so the sum
does not depend on who was fast. A product's bits are the same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from services.inference.kernels.triton.gemm import gemm_kernel
from services.inference.kernels.triton.gemv import gemv_kernel
from services.inference.kernels.triton.matrix import Matrix

_KINDS = {"q4": 4, "q8": 8, "fp8": 8, "dense": 16}
_WAVE = 132
"""Programs that keep a large device busy: its multiprocessors."""


@dataclass(frozen=True)
class Plan:
    """How a product is cut into programs."""

    block_m: int
    block_n: int
    block_k: int
    split: int
    warps: int
    stages: int = 3


def plan(rows: int, matrix: Matrix, outputs: int, *, may_split: bool) -> Plan:
    """Return a cut by the shape of the product alone, so that equal calls give equal bits.

    One row: small tiles, as many programs as multiprocessors, four-bit tiles
    of 256 columns to read whole sectors. Many rows: tiles that reuse what they
    read.
    """
    if rows == 1:
        block_n, block_k = (16, 256) if matrix.kind == "q4" else (8, 256)
        return Plan(1, block_n, block_k, _split(outputs // block_n, matrix, block_k, may_split), 4)
    if rows <= 64:
        block_m = 16 if rows <= 16 else 32 if rows <= 32 else 64
        split = _split(outputs // 32, matrix, 128, may_split)
        return Plan(block_m, 32, 128, split, 4, 4)
    if outputs < 2048 or outputs < matrix.outputs:
        return Plan(64, 64, 64, 1, 4)  # a gated tile has two sums, which fill the registers
    return Plan(128, 128, 64, 1, 8)


def _split(tiles: int, matrix: Matrix, block_k: int, may_split: bool) -> int:
    """Return in how many parts to cut the inputs: 1, 2, 4 or 8, four steps each at least."""
    split = 1
    while may_split and split < 8 and tiles * split < _WAVE:
        if matrix.inputs // block_k < 8 * split:
            break
        split *= 2
    return split


@dataclass
class Scratch:
    """Memory of split products on one device; grows, and counters are left at zero."""

    parts: torch.Tensor
    arrived: torch.Tensor


_scratch: dict[torch.device, Scratch] = {}
_PARTS = 8 * 64 * 16384
_COUNTERS = 65536


def scratch(device: torch.device) -> Scratch:
    """Return the one of `device`: captured graphs keep its address, so it never moves."""
    if device not in _scratch:
        _scratch[device] = Scratch(
            torch.empty(_PARTS, dtype=torch.float32, device=device),
            torch.zeros(_COUNTERS, dtype=torch.int32, device=device),
        )
    return _scratch[device]


def linear(
    hidden: torch.Tensor,
    matrix: Matrix,
    *,
    norm: torch.Tensor | None = None,
    epsilon: float = 0.0,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    is_gated: bool = False,
    dtype: torch.dtype = torch.float32,
    cut: Plan | None = None,
) -> torch.Tensor:
    """See `reference.linear`. `cut` overrides the plan, for tests and tuning."""
    rows, outputs = hidden.shape[0], matrix.outputs // (2 if is_gated else 1)
    may_split = norm is None and not is_gated and rows * outputs * 8 <= _PARTS
    cut = cut or plan(rows, matrix, outputs, may_split=may_split)
    out = torch.empty(rows, outputs, dtype=dtype, device=hidden.device)
    memory, none = scratch(hidden.device), out
    flags = {
        "COLUMNS": matrix.inputs,
        "GROUP": matrix.group,
        "KIND": _KINDS[matrix.kind],
        "HAS_MIN": matrix.minimums is not None,
        "NORM": norm is not None,
        "BIAS": bias is not None,
        "RESIDUAL": residual is not None,
        "GATED": is_gated,
        "BLOCK_N": cut.block_n,
        "BLOCK_K": cut.block_k,
        "SPLIT": cut.split,
        "num_warps": cut.warps,
        "num_stages": cut.stages,
    }
    codes = matrix.codes
    if rows == 1 and matrix.kind == "q4":
        codes = codes.view(torch.int32)
    tensors = (hidden, norm, codes, matrix.scales, matrix.minimums, bias, residual)
    pointers = [none if tensor is None else tensor for tensor in tensors]
    pointers += [out, memory.parts, memory.arrived]
    tiles = triton.cdiv(outputs, cut.block_n)
    if rows == 1:
        gemv_kernel[tiles, rows, cut.split](*pointers, outputs, epsilon, **flags)
        return out
    flags |= {"BLOCK_M": cut.block_m, "TYPE": compute_type(hidden, matrix)}
    grid = (tiles, triton.cdiv(rows, cut.block_m), cut.split)
    gemm_kernel[grid](*pointers, rows, outputs, epsilon, **flags)
    return out


def compute_type(hidden: torch.Tensor, matrix: Matrix) -> tl.dtype:
    """Return what the matrix units multiply: bfloat16, or what the interpreter can."""
    if hidden.device.type == "cpu":
        return tl.float32
    return tl.float16 if matrix.codes.dtype == torch.float16 else tl.bfloat16
