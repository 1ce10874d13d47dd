"""Weights in groups of few bits: what `thermesh quantize` writes and the loader reads.

A row of a matrix is cut into groups of 32 or a multiple of it. Each group has a
scale, and a minimum where its format says so; a weight is

    scale * code + minimum      with a minimum, up to 4 bits
    scale * (code - 2^(bits-1)) without, up to 8 bits

in float32, scale and minimum being halves. These are the weights that blocks of
GGUF can hold, so that a row is laid out again as blocks of 32 without changing a
number: `Q4_1` with a minimum, `Q4_0` without up to 4 bits, `Q8_0` above.

A stored row is its scales, its minima, its codes: a stream of bits, lowest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK = 32
"""Columns of a block of GGUF; groups are whole blocks."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GroupFormat:
    """How the weights of one matrix are stored."""

    bits: int
    group: int
    """Columns that share a scale."""
    has_minimum: bool

    def problem(self, columns: int) -> str | None:
        """Return why rows of `columns` weights cannot be stored so, None where they can."""
        if not 2 <= self.bits <= (4 if self.has_minimum else 8):
            most = "2 to 4 bits with a minimum, 2 to 8 without"
            return f"{self.bits} bits {'with' if self.has_minimum else 'without'}, expected {most}"
        if self.group < BLOCK or self.group % BLOCK:
            return f"groups of {self.group} columns, expected a multiple of {BLOCK}"
        if columns < 1 or columns % self.group:
            return f"{columns} columns are no whole groups of {self.group}"
        return None

    @property
    def offset(self) -> int:
        """The code that means 0 where there is no minimum."""
        return 0 if self.has_minimum else 1 << (self.bits - 1)

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight, its share of scale and minimum included."""
        return self.bits + (32 if self.has_minimum else 16) / self.group

    @property
    def kind(self) -> str:
        """The blocks of GGUF that hold the same weights."""
        if self.has_minimum:
            return "Q4_1"
        return "Q4_0" if self.bits <= 4 else "Q8_0"

    def row_bytes(self, columns: int) -> int:
        """Bytes of a stored row."""
        return round(columns * self.bits_per_weight) // 8


@dataclass(frozen=True)
class Rows:
    """Rows of a matrix taken apart: codes [rows, columns], the others [rows, groups]."""

    codes: Bytes
    scales: npt.NDArray[np.float16]
    minima: npt.NDArray[np.float16] | None

    def weights(self, form: GroupFormat) -> npt.NDArray[np.float32]:
        """Return the weights: [rows, columns]."""
        shape = (*self.scales.shape, form.group)
        codes = self.codes.reshape(shape).astype(np.float32) - np.float32(form.offset)
        weights = codes * self.scales.astype(np.float32)[..., None]
        if self.minima is not None:
            weights += self.minima.astype(np.float32)[..., None]
        return weights.reshape(self.codes.shape)


def stored(rows: Rows, form: GroupFormat) -> Bytes:
    """Return rows as they are stored: [rows, bytes of a row]."""
    halves = [rows.scales] if rows.minima is None else [rows.scales, rows.minima]
    parts = [np.ascontiguousarray(half).view(np.uint8) for half in halves]
    return np.concatenate([*parts, _packed(rows.codes, form.bits)], axis=1)


def taken_apart(content: Bytes, form: GroupFormat, columns: int) -> Rows:
    """Return stored rows ([rows, bytes of a row]) as codes, scales and minima."""
    width = 2 * columns // form.group
    scales = np.ascontiguousarray(content[:, :width]).view(np.float16)
    start, minima = width, None
    if form.has_minimum:
        start = 2 * width
        minima = np.ascontiguousarray(content[:, width:start]).view(np.float16)
    return Rows(_unpacked(content[:, start:], form.bits), scales, minima)


def blocks(content: Bytes, form: GroupFormat, columns: int) -> Bytes:
    """Return stored rows as blocks of `form.kind`, the same weights: [rows, bytes]."""
    step = max(1, (1 << 20) // columns)
    pieces = [
        as_blocks(taken_apart(content[first : first + step], form, columns), form)
        for first in range(0, len(content), step)
    ]
    return np.concatenate(pieces)


def as_blocks(rows: Rows, form: GroupFormat) -> Bytes:
    """Return rows as blocks of `form.kind`, the same weights: [rows, bytes]."""
    count, columns = rows.codes.shape
    codes = rows.codes.reshape(count, columns // BLOCK, BLOCK)
    if form.kind == "Q8_0":
        body = codes - np.uint8(form.offset)  # wraps: the bits of a signed byte
    else:
        # Blocks of Q4_0 count from 8 whatever the bits.
        moved = codes if form.has_minimum else codes + np.uint8(8 - form.offset)
        body = moved[..., :16] | moved[..., 16:] * np.uint8(16)
    heads = [_of_blocks(rows.scales, form)]
    if rows.minima is not None:
        heads.append(_of_blocks(rows.minima, form))
    return np.concatenate([*heads, body], axis=-1).reshape(count, -1)


def _of_blocks(halves: npt.NDArray[np.float16], form: GroupFormat) -> Bytes:
    """Return one half of each block as two bytes: [rows, blocks, 2]."""
    repeated = np.repeat(halves, form.group // BLOCK, axis=1)
    pairs: Bytes = repeated[..., None].view(np.uint8)
    return pairs


def _packed(codes: Bytes, bits: int) -> Bytes:
    """Return codes as a stream of bits: eight of them are `bits` bytes."""
    eights = codes.reshape(len(codes), -1, 8).astype(np.uint64)
    words = np.bitwise_or.reduce(eights << _shifts(bits), axis=-1)
    lowest = words[..., None].astype("<u8").view(np.uint8)[..., :bits]
    return np.ascontiguousarray(lowest).reshape(len(codes), -1)


def _unpacked(stream: Bytes, bits: int) -> Bytes:
    eights = stream.reshape(len(stream), -1, bits)
    words = np.zeros((*eights.shape[:2], 8), np.uint8)
    words[..., :bits] = eights
    codes = words.view("<u8") >> _shifts(bits) & np.uint64((1 << bits) - 1)
    small: Bytes = codes.astype(np.uint8)
    return small.reshape(len(stream), -1)


def _shifts(bits: int) -> npt.NDArray[Any]:
    return np.arange(8, dtype=np.uint64) * np.uint64(bits)
