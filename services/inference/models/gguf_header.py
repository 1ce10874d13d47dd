"""The header of a GGUF file: metadata, and where each tensor lies.

The layout is that of the specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3,
little endian: magic, counts, key-value pairs, tensor descriptions, padding,
tensor data. It is parsed here and not by `gguf.GGUFReader`, which makes several
numpy arrays of each of 100,000 strings (1.8 s and 80 MB for a vocabulary of
49,152) and loops for ever on a count that the file cannot hold.
"""

from __future__ import annotations

import math
import pathlib
import struct
from dataclasses import dataclass
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from services.inference.models.group_codes import GroupFormat
from services.inference.models.refusal import malformed

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
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


@dataclass(frozen=True)
class TensorDescription:
    """A tensor of the file; `shape` is outermost first, as numpy has it."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    byte_count: int
    mix: GroupFormat | None = None
    """How `kind` I8 is to be read, where the file is a mix (`gguf_mix`)."""

    @property
    def format(self) -> str:
        """The blocks that `GgufFile.stored` gives, e.g. `Q4_1`."""
        return self.kind.name if self.mix is None else self.mix.kind


class Header:
    """A cursor over the header that never leaves the file."""

    def __init__(self, path: pathlib.Path, content: memoryview) -> None:
        self._path = path
        self._content = content
        self._position = 0

    def start(self) -> tuple[int, int]:
        """Read up to the counts: (tensors, key-value pairs)."""
        if bytes(self._take(4)) != MAGIC:
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
