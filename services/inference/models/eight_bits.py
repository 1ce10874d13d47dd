"""Weights that are not quantised, rounded to eight bits while they are read.

Only where `THERMESH_WEIGHTS=int8` asks for it: a model is served as its file has it
otherwise. Rows become blocks of 32 weights with one scale in half precision, `Q8_0`
as llama.cpp has it. Matrices that are quantised as the kernels know it stay bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.inference.config import KernelsConfig
from services.inference.kernels import Blocks
from services.inference.kernels.cpu.packing import QUANTISED, Tensors
from thermesh.settings import from_env

BLOCK = 32
KIND = "Q8_0"
_LARGEST_CODE = 127


class Readable(Tensors, Protocol):
    """Tensors whose numbers can be read too."""

    def pieces(self, name: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (first row, rows as float32) of a tensor; together they are all of it."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that is there."""
        ...


def rounded(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return rows [count, columns] as blocks of Q8_0: [count, bytes of a row].

    `columns` is a multiple of 32. A code is at most half a step off, a step being a
    127th of the largest weight of its block.
    """
    blocks = rows.reshape(len(rows), -1, BLOCK)
    with np.errstate(over="ignore"):  # an infinite scale is refused when it is packed
        scales = (np.abs(blocks).max(axis=-1, keepdims=True) / _LARGEST_CODE).astype(np.float16)
    steps = scales.astype(np.float32)
    codes = np.rint(blocks / np.where(steps > 0, steps, np.inf))
    codes = np.clip(codes, -_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)
    parts = (scales.view(np.uint8), codes.view(np.uint8))
    return np.concatenate(parts, axis=-1).reshape(len(rows), -1)


def as_blocks(
    shape: tuple[int, ...], pieces: Iterable[tuple[int, npt.NDArray[np.float32]]]
) -> Blocks:
    """Return a matrix of `shape`, given in pieces of rows and where they begin, in eight bits.

    Columns that fill no block give rows without bytes, which nobody can pack.
    """
    rows, columns = shape
    if columns % BLOCK:
        return Blocks(KIND, np.empty((rows, 0), np.uint8), columns)
    stored = np.empty((rows, columns // BLOCK * (BLOCK + 2)), np.uint8)
    for first, numbers in pieces:
        stored[first : first + len(numbers)] = rounded(numbers)
    return Blocks(KIND, stored, columns)


class EightBits:
    """The tensors of a GGUF file, in formats that the packed kernels know."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def kinds(self) -> Mapping[str, str]:
        """Return the format of each matrix."""
        kinds = self._source.kinds()
        return {name: kind if kind in QUANTISED else KIND for name, kind in kinds.items()}

    def matrix(self, name: str) -> Blocks:
        """Return a matrix, rounded where it must be."""
        if self._source.kinds()[name] in QUANTISED:
            return self._source.matrix(name)
        return as_blocks(self._source.shape(name), self._source.pieces(name))

    def vector(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return a vector, None where the file lacks it."""
        return self._source.vector(name)

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """Return the rotary frequencies in radians per position: [head_size / 2]."""
        return self._source.inverse_frequencies()


def as_wanted(source: Readable) -> Tensors:
    """Return `source`, in eight bits where the environment asks for them."""
    return EightBits(source) if from_env(KernelsConfig).weights == "int8" else source
