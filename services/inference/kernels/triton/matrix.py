"""Weight matrices as the GPU reads them: the numbers of the file, nothing rounded.

A GGUF block of 32 four-bit weights keeps weight i and weight i + 16 in one byte.
The kernels read that order as it is, so that packing only takes scales and codes
apart:

    q4     codes [outputs, inputs / 2] uint8, weight = (code - 8) * scale, or
           code * scale + minimum where there are minimums
    q8     codes [outputs, inputs] int8, weight = code * scale (+ minimum)
    fp8    codes [outputs, inputs] float8_e4m3fn, weight = code * scale
    dense  codes [outputs, inputs], the weights themselves

Scales and minimums are [outputs, inputs / group] float16 as in the file (Q4_0,
Q4_1 and Q8_0 have groups of 32) or float32; a group of all inputs is a scale
for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from services.inference.kernels.cpu.packing import Blocks

BLOCK = 32
_HEADERS = {"Q4_0": 2, "Q4_1": 4, "Q8_0": 2}
KINDS = tuple(_HEADERS)
"""Formats of GGUF that can be packed without loss."""
FP8_HIGHEST = 448.0
"""The largest number of float8_e4m3fn."""


@dataclass(frozen=True)
class Matrix:
    """A matrix of `outputs` rows and `inputs` columns; see the module for the kinds."""

    kind: str
    codes: torch.Tensor
    scales: torch.Tensor | None = None
    minimums: torch.Tensor | None = None
    group: int = BLOCK

    @property
    def outputs(self) -> int:
        """Rows: numbers that a product gives."""
        return self.codes.shape[0]

    @property
    def inputs(self) -> int:
        """Columns: numbers that a product takes."""
        return self.codes.shape[1] * (2 if self.kind == "q4" else 1)

    @property
    def byte_count(self) -> int:
        """Bytes that a product reads."""
        return sum(part.nbytes for part in self._parts())

    def to(self, device: torch.device | str) -> Matrix:
        """Return the matrix on `device`."""
        return self._changed(lambda part: part.to(device))

    def rows(self, start: int, stop: int) -> Matrix:
        """Return some of the outputs."""
        return self._changed(lambda part: part[start:stop].contiguous())

    def columns(self, start: int, stop: int) -> Matrix:
        """Return some of the inputs; bounds must be multiples of the group, or of 32
        where a row has one scale.
        """
        inputs = self.inputs

        def cut(part: torch.Tensor) -> torch.Tensor:
            width = part.shape[1]
            if width == 1:
                return part
            return part[:, start * width // inputs : stop * width // inputs].contiguous()

        group = stop - start if self.group == inputs else self.group
        return replace(self._changed(cut), group=group)

    def _parts(self) -> list[torch.Tensor]:
        return [part for part in (self.codes, self.scales, self.minimums) if part is not None]

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Matrix:
        return replace(
            self,
            codes=change(self.codes),
            scales=None if self.scales is None else change(self.scales),
            minimums=None if self.minimums is None else change(self.minimums),
        )


def from_blocks(parts: Sequence[Blocks]) -> Matrix:
    """Return the matrices of a file below one another as one, without loss.

    Of several formats the widest is kept: minimums where one has them, eight
    bits where one has those.
    """
    kinds = {part.kind for part in parts}
    is_wide, has_minimums = "Q8_0" in kinds, "Q4_1" in kinds
    packed = [_packed(part) for part in parts]
    if has_minimums:
        packed = [_with_minimums(one) for one in packed]
    if is_wide:
        packed = [_widened(one) for one in packed]
    return joined(packed)


def joined(parts: Sequence[Matrix]) -> Matrix:
    """Return matrices of one kind below one another."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(
        first,
        codes=torch.cat([part.codes for part in parts]),
        scales=_cat([part.scales for part in parts]),
        minimums=_cat([part.minimums for part in parts]),
    )


def quantise(weights: torch.Tensor, bits: int, group: int) -> Matrix:
    """Round [outputs, inputs] symmetrically to 4 or 8 bits in groups of 32, 64, 128 or all."""
    outputs, inputs = weights.shape
    highest = 7 if bits == 4 else 127
    grouped = weights.float().view(outputs, inputs // group, group)
    scales = (grouped.abs().amax(-1) / highest).clamp(min=1e-8).half()
    codes = (grouped / scales.float()[..., None]).round().clamp(-highest - 1, highest)
    codes = codes.view(outputs, inputs).to(torch.int8)
    if bits == 8:
        return Matrix("q8", codes, scales, None, group)
    return Matrix("q4", _nibbles(codes + 8), scales, None, group)


def as_blocks(matrix: Matrix) -> Blocks:
    """Return a symmetric matrix of groups as blocks of GGUF: the same numbers."""
    assert matrix.scales is not None
    assert matrix.minimums is None
    count = matrix.inputs // BLOCK
    codes = matrix.codes.view(torch.uint8).view(matrix.outputs, count, -1)
    scales = matrix.scales.repeat_interleave(matrix.group // BLOCK, dim=1)[..., None]
    parts = torch.cat((scales.view(torch.uint8), codes), dim=-1)
    kind = "Q4_0" if matrix.kind == "q4" else "Q8_0"
    return Blocks(kind, parts.view(matrix.outputs, -1).numpy(), matrix.inputs)


def quantise_fp8(weights: torch.Tensor) -> Matrix:
    """Round [outputs, inputs] to float8_e4m3fn with a float32 scale for each row."""
    scales = (weights.float().abs().amax(-1, keepdim=True) / FP8_HIGHEST).clamp(min=1e-12)
    codes = (weights.float() / scales).to(torch.float8_e4m3fn)
    return Matrix("fp8", codes, scales, None, weights.shape[1])


def dequantise(matrix: Matrix) -> torch.Tensor:
    """Return [outputs, inputs] float32: exactly the numbers that the matrix stands for."""
    codes = _unpacked(matrix).float() if matrix.kind == "q4" else matrix.codes.float()
    if matrix.scales is None:
        return codes
    if matrix.kind == "q4" and matrix.minimums is None:
        codes = codes - 8
    weights = codes * matrix.scales.float().repeat_interleave(matrix.group, dim=1)
    if matrix.minimums is not None:
        weights = weights + matrix.minimums.float().repeat_interleave(matrix.group, dim=1)
    return weights


def _packed(blocks: Blocks) -> Matrix:
    header = _HEADERS[blocks.kind]
    outputs, groups = len(blocks.rows), blocks.columns // BLOCK
    stored = np.ascontiguousarray(blocks.rows).reshape(outputs, groups, -1)
    numbers = np.ascontiguousarray(stored[:, :, :header]).view(np.float16)
    codes = torch.from_numpy(np.ascontiguousarray(stored[:, :, header:]).reshape(outputs, -1))
    scales = torch.from_numpy(np.ascontiguousarray(numbers[:, :, 0]))
    if blocks.kind == "Q8_0":
        return Matrix("q8", codes.view(torch.int8), scales)
    if blocks.kind == "Q4_0":
        return Matrix("q4", codes, scales)
    return Matrix("q4", codes, scales, torch.from_numpy(np.ascontiguousarray(numbers[:, :, 1])))


def _with_minimums(matrix: Matrix) -> Matrix:
    """Say Q4_0 as Q4_1: -8 times a float16 is one too, as 8 is a power of two."""
    if matrix.minimums is not None:
        return matrix
    assert matrix.scales is not None
    factor = -8.0 if matrix.kind == "q4" else 0.0
    return replace(matrix, minimums=matrix.scales * factor)


def _widened(matrix: Matrix) -> Matrix:
    """Give each four-bit code a byte."""
    if matrix.kind == "q8":
        return matrix
    offset = 8 if matrix.minimums is None else 0
    return replace(matrix, kind="q8", codes=(_unpacked(matrix).to(torch.int8) - offset))


def _unpacked(matrix: Matrix) -> torch.Tensor:
    """Return the four-bit codes as [outputs, inputs] uint8."""
    stored = matrix.codes.view(matrix.outputs, -1, BLOCK // 2)
    return torch.cat((stored & 15, stored >> 4), dim=-1).view(matrix.outputs, -1)


def _nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Pack codes of 0 to 15 as the blocks of GGUF do."""
    grouped = codes.to(torch.uint8).view(codes.shape[0], -1, 2, BLOCK // 2)
    return (grouped[:, :, 0] | (grouped[:, :, 1] << 4)).reshape(codes.shape[0], -1)


def _cat(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
