"""A GGUF file: its metadata, and its tensors dequantised piece by piece.

`gguf_header` reads the description of what is in it. Dequantisation is
`gguf.quants`, the reference of the format's authors.

Whatever the bytes are, the outcome is a file or an error naming the problem.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from services.inference.models import gguf_mix, group_codes
from services.inference.models.gguf_header import (
    DEFAULT_ALIGNMENT,
    MAGIC,
    Header,
    TensorDescription,
)
from services.inference.models.group_codes import GroupFormat
from services.inference.models.refusal import malformed, unsupported
from thermesh.errors import NotFound

_PIECE_WEIGHTS = 1 << 21
"""Weights dequantised at once: 8 MB of float32, about what the caches hold."""

Value = TypeVar("Value")


class GgufFile:
    """A GGUF file, mapped into memory for as long as the object lives.

    Raises NotFound where there is no such file and InvalidArgument where it is
    not a sound GGUF file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._bytes = _mapped(path)
        header = Header(path, memoryview(self._bytes.data))
        tensor_count, pair_count = header.start()
        self.metadata: Mapping[str, Any] = header.metadata(pair_count)
        stored = header.tensors(
            tensor_count, self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        )
        self.tensors: Mapping[str, TensorDescription] = stored | self._mixed(stored)

    def _mixed(self, stored: Mapping[str, TensorDescription]) -> dict[str, TensorDescription]:
        coded = {
            name: tensor.shape
            for name, tensor in stored.items()
            if tensor.kind is GGMLQuantizationType.I8
        }
        return {
            name: dataclasses.replace(
                stored[name], shape=(stored[name].shape[0], columns), mix=form
            )
            for name, (form, columns) in gguf_mix.formats(self.path, self.metadata, coded).items()
        }

    def require(self, key: str, kind: type[Value]) -> Value:
        """Return the metadata value `key`; raise where it is missing or of another type."""
        if key not in self.metadata:
            raise malformed(self.path, f"metadata key {key} is missing")
        return cast("Value", self.optional(key, kind, None))

    def optional(self, key: str, kind: type[Value], default: Any) -> Any:
        """Return the metadata value `key` or `default`; raise where its type is another."""
        value = self.metadata.get(key, default)
        if value is default:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            found = type(value).__name__
            raise malformed(self.path, f"metadata key {key} is a {found}, not a {kind.__name__}")
        return value

    def bytes_of(self, name: str) -> npt.NDArray[np.uint8]:
        """Return a tensor's own bytes, a row of it a row: [..., bytes of a row]."""
        tensor = self.tensors[name]
        content = self._bytes[tensor.offset : tensor.offset + tensor.byte_count]
        return np.asarray(content).reshape(*tensor.shape[:-1], -1)

    def stored(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the bytes of a matrix in its `format`: [rows, bytes of a row].

        They are the file's own, not copied, where the file is no mix.
        """
        tensor, rows = self.tensors[name], self.bytes_of(name)
        if tensor.mix is None:
            return rows
        return group_codes.blocks(rows, tensor.mix, tensor.shape[-1])

    def pieces(self, name: str, row_multiple: int = 1) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield (first row, rows as float32) of a tensor; together they are all of it.

        A vector comes as one piece. The rows of each piece but the last are a
        multiple of `row_multiple`.
        """
        tensor = self.tensors[name]
        rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
        row_bytes = tensor.byte_count // rows
        step = max(_PIECE_WEIGHTS * rows // math.prod(tensor.shape), 1)
        step = -(-step // row_multiple) * row_multiple
        for first in range(0, rows, step):
            last = min(first + step, rows)
            begin = tensor.offset + first * row_bytes
            stored = self._bytes[begin : tensor.offset + last * row_bytes]
            floats = self._dequantized(tensor, np.asarray(stored).reshape(last - first, row_bytes))
            yield first, floats if len(tensor.shape) > 1 else floats[0]

    def _dequantized(
        self, tensor: TensorDescription, rows: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32]:
        if tensor.mix is not None:
            return self._finite(tensor, _weights(rows, tensor.mix, tensor.shape[-1]))
        try:
            # A scale that is no number warns on the way to being refused.
            with np.errstate(all="ignore"):
                floats: npt.NDArray[np.float32] = dequantize(rows, tensor.kind)
        except NotImplementedError as error:
            raise unsupported(
                self.path, f"tensor {tensor.name} is stored as {tensor.kind.name}, unknown here"
            ) from error
        return self._finite(tensor, floats)

    def _finite(
        self, tensor: TensorDescription, floats: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        if not np.isfinite(floats).all():
            raise malformed(self.path, f"tensor {tensor.name} holds numbers that are not finite")
        return floats


def _weights(
    rows: npt.NDArray[np.uint8], form: GroupFormat, columns: int
) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        return group_codes.taken_apart(rows, form, columns).weights(form)


def _mapped(path: pathlib.Path) -> npt.NDArray[np.uint8]:
    if not path.is_file():
        raise NotFound(f"{path.name}: no such model file", field="model")
    if path.stat().st_size < len(MAGIC):
        raise malformed(path, "too short to be a GGUF file")
    return np.memmap(path, dtype=np.uint8, mode="r")
