"""Matrices of mixed precision in a GGUF file: `thermesh quantize` writes them.

The file is a GGUF file in all but its matrices. Those are tensors of type I8,
[rows, bytes of a row] as `group_codes` lays rows out, and one metadata key tells
their formats, as JSON:

    thermesh.mix.version    uint32, 1
    thermesh.mix.matrices   {"blk.0.attn_q.weight": [bits, group, has_minimum, columns], ...}

What rounding did to the network's confidence may be made up for: one more key, a
factor on temperature. Who loads the file divides the logits by it.

    thermesh.mix.temperature   float32, 1 where the key is missing
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from services.inference.models.group_codes import GroupFormat
from services.inference.models.refusal import malformed, unsupported

VERSION_KEY = "thermesh.mix.version"
MATRICES_KEY = "thermesh.mix.matrices"
TEMPERATURE_KEY = "thermesh.mix.temperature"
VERSION = 1
_LOWEST, _HIGHEST = 0.5, 2.0


def temperature_factor(path: pathlib.Path, metadata: Mapping[str, Any]) -> float:
    """Return what a mix wants temperatures multiplied by, 1 for any other file.

    Raises where it is no factor in [0.5, 2].
    """
    if VERSION_KEY not in metadata:
        return 1.0
    factor = metadata.get(TEMPERATURE_KEY, 1.0)
    if type(factor) is not float or not _LOWEST <= factor <= _HIGHEST:
        problem = f"{TEMPERATURE_KEY} is {factor!r}, not a number in [{_LOWEST:g}, {_HIGHEST:g}]"
        raise malformed(path, problem)
    return factor


def formats(
    path: pathlib.Path, metadata: Mapping[str, Any], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[GroupFormat, int]]:
    """Return (format, columns) of each matrix of a mix; empty for any other file.

    `stored` has the shape of each tensor of type I8. Raises where the metadata
    does not describe them.
    """
    if VERSION_KEY not in metadata:
        return {}
    if metadata[VERSION_KEY] != VERSION:
        found = f"{VERSION_KEY} is {metadata[VERSION_KEY]}"
        raise unsupported(path, f"{found}, this version reads {VERSION}")
    described = {
        name: _format(path, name, value, stored.get(name))
        for name, value in _matrices(path, metadata).items()
    }
    if unknown := sorted(set(stored) - set(described)):
        raise malformed(path, f"tensor {unknown[0]} is missing in {MATRICES_KEY}")
    return described


def _matrices(path: pathlib.Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        matrices = json.loads(metadata.get(MATRICES_KEY, ""))
    except (TypeError, ValueError, RecursionError) as error:
        raise malformed(path, f"{MATRICES_KEY} is not JSON") from error
    if not isinstance(matrices, dict):
        raise malformed(path, f"{MATRICES_KEY} is not a JSON object")
    return matrices


def _format(
    path: pathlib.Path, name: str, value: Any, shape: tuple[int, ...] | None
) -> tuple[GroupFormat, int]:
    if not (isinstance(value, list) and [type(v) for v in value] == [int, int, bool, int]):
        raise malformed(path, f"{MATRICES_KEY}: {name} is not [bits, group, has_minimum, columns]")
    bits, group, has_minimum, columns = value
    form = GroupFormat(bits, group, has_minimum)
    if problem := form.problem(columns):
        raise malformed(path, f"{MATRICES_KEY}: {name} has {problem}")
    if shape is None or len(shape) != 2:
        raise malformed(path, f"tensor {name} of {MATRICES_KEY} is not a matrix of bytes")
    if shape[1] != form.row_bytes(columns):
        problem = f"rows of {shape[1]} bytes, expected {form.row_bytes(columns)}"
        raise malformed(path, f"tensor {name} has {problem}")
    return form, columns
