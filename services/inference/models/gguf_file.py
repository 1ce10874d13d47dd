"""A GGUF file: its metadata, and its tensors dequantised piece by piece.

The layout is that of the specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3,
little endian: magic, counts, key-value pairs, tensor descriptions, padding,
tensor data. The header is parsed here and not by `gguf.GGUFReader`, which
makes several numpy arrays of each of 100,000 strings (1.8 s and 80 MB for a
vocabulary of 49,152) and loops for ever on a count that the file cannot hold.
Dequantisation is `gguf.quants`, the reference of the format's authors.

Whatever the bytes are, the outcome is a file or an error naming the problem.
"""

from __future__ import annotations

import math
import pathlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from services.inference.models.refusal import malformed, unsupported
from thermesh.errors import NotFound

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SCALARS: dict[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""struct format of each scalar type of the specification."""
_MAXIMUM_DIMENSIONS = 4
_PIECE_WEIGHTS = 1 << 21
"""Weights dequantised at once: 8 MB of float32, about what the caches hold."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class TensorDescription:
    """A tensor of the file; `shape` is outermost first, as numpy has it."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    byte_count: int


class GgufFile:
    """A GGUF file, mapped into memory for as long as the object lives.

    Raises NotFound where there is no such file and InvalidArgument where it is
    not a sound GGUF file.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._bytes = _mapped(path)
        header = _Header(path, memoryview(self._bytes.data))
        tensor_count, pair_count = header.start()
        self.metadata: Mapping[str, Any] = header.metadata(pair_count)
        self.tensors: Mapping[str, TensorDescription] = header.tensors(
            tensor_count, self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        )

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

    def stored(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the bytes of a matrix, not copied: [rows, bytes of a row]."""
        tensor = self.tensors[name]
        content = self._bytes[tensor.offset : tensor.offset + tensor.byte_count]
        return np.asarray(content).reshape(tensor.shape[0], -1)

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
        try:
            # A scale that is no number warns on the way to being refused.
            with np.errstate(all="ignore"):
                floats: npt.NDArray[np.float32] = dequantize(rows, tensor.kind)
        except NotImplementedError as error:
            raise unsupported(
                self.path, f"tensor {tensor.name} is stored as {tensor.kind.name}, unknown here"
            ) from error
        if not np.isfinite(floats).all():
            raise malformed(self.path, f"tensor {tensor.name} holds numbers that are not finite")
        return floats


def _mapped(path: pathlib.Path) -> npt.NDArray[np.uint8]:
    if not path.is_file():
        raise NotFound(f"{path.name}: no such model file", field="model")
    if path.stat().st_size < len(_MAGIC):
        raise malformed(path, "too short to be a GGUF file")
    return np.memmap(path, dtype=np.uint8, mode="r")


class _Header:
    """A cursor over the header that never leaves the file."""

    def __init__(self, path: pathlib.Path, content: memoryview) -> None:
        self._path = path
        self._content = content
        self._position = 0

    def start(self) -> tuple[int, int]:
        """Read up to the counts: (tensors, key-value pairs)."""
        if bytes(self._take(4)) != _MAGIC:
            raise malformed(self._path, "not a GGUF file: its first bytes are not `GGUF`")
        version = self._scalar("I")
        if version not in _VERSIONS:
            raise malformed(self._path, f"GGUF version {version}, expected 2 or 3, little endian")
        # The smallest tensor description takes 24 bytes, the smallest pair 13.
        return self._count("tensor", 24), self._count("metadata", 13)

    def metadata(self, pairs: int) -> dict[str, Any]:
        """Read the key-value pairs."""
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string()
            if key in metadata:
                raise malformed(self._path, f"metadata key {key} appears twice")
            metadata[key] = self._value(self._scalar("I"), key)
        return metadata

    def tensors(self, count: int, alignment: Any) -> dict[str, TensorDescription]:
        """Read the tensor descriptions and check that their data is in the file."""
        if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
            raise malformed(self._path, f"general.alignment is {alignment}, not a power of two")
        stated = [self._stated_tensor() for _ in range(count)]
        data = -(-self._position // alignment) * alignment
        described: dict[str, TensorDescription] = {}
        for name, shape, kind, offset in stated:
            if name in described:
                raise malformed(self._path, f"tensor {name} appears twice")
            described[name] = self._described(name, shape, kind, data + offset)
        return described

    def _stated_tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        dimensions = self._scalar("I")
        if not 1 <= dimensions <= _MAXIMUM_DIMENSIONS:
            raise malformed(self._path, f"tensor {name} has {dimensions} dimensions, not 1 to 4")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))[::-1]
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _described(
        self, name: str, shape: tuple[int, ...], kind_number: int, offset: int
    ) -> TensorDescription:
        try:
            kind = GGMLQuantizationType(kind_number)
        except ValueError as error:
            raise malformed(
                self._path, f"tensor {name} has the unknown type {kind_number}"
            ) from error
        block_weights, block_bytes = GGML_QUANT_SIZES[kind]
        if 0 in shape or shape[-1] % block_weights:
            raise malformed(self._path, f"tensor {name} of type {kind.name} has shape {shape}")
        byte_count = math.prod(shape) // block_weights * block_bytes
        if offset + byte_count > len(self._content):
            raise malformed(self._path, f"truncated: tensor {name} ends beyond the end of the file")
        return TensorDescription(name, shape, kind, offset, byte_count)

    def _value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(key)
        return self._scalar(self._scalar_format(kind, key))

    def _array(self, key: str) -> list[Any]:
        kind = self._scalar("I")
        if kind == _STRING:
            return [self._string() for _ in range(self._count(key, 8))]
        # Arrays of arrays are allowed by the specification and used by nobody.
        format_ = self._scalar_format(kind, key)
        count = self._count(key, struct.calcsize(f"<{format_}"))
        packed = f"<{count}{format_}"
        return list(struct.unpack(packed, self._take(struct.calcsize(packed))))

    def _scalar_format(self, kind: int, key: str) -> str:
        if kind not in _SCALARS:
            raise malformed(self._path, f"metadata key {key} has the unknown type {kind}")
        return _SCALARS[kind]

    def _count(self, of: str, smallest_bytes: int) -> int:
        """Read a count and check that the rest of the file could hold as many."""
        count: int = self._scalar("Q")
        if count * smallest_bytes > len(self._content) - self._position:
            raise malformed(self._path, f"truncated: the {of} count {count} exceeds the file")
        return count

    def _string(self) -> str:
        length = self._scalar("Q")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise malformed(self._path, "a string of the header is not UTF-8") from error

    def _scalar(self, format_: str) -> Any:
        size = struct.calcsize(f"<{format_}")
        return struct.unpack(f"<{format_}", self._take(size))[0]

    def _take(self, length: int) -> memoryview:
        end = self._position + length
        if end > len(self._content):
            raise malformed(self._path, "truncated: the header ends beyond the end of the file")
        taken = self._content[self._position : end]
        self._position = end
        return taken
