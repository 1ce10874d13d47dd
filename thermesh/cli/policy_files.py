"""Policies as files: written, read, compared.

A file holds one version as JSON: kind, version, reason, feedback_count,
created_unix_ms and parameters. Numbers keep every digit.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from thermesh.errors import InvalidArgument
from thermesh.v1 import controller_pb2

FORMAT = 1
LARGEST_FILE_BYTES = 8 * 1024 * 1024


def of_answer(answer: controller_pb2.GetPolicyResponse) -> dict[str, Any]:
    """Return the content of the file of one version."""
    policy = answer.policy
    return {
        "format": FORMAT,
        "kind": policy.kind,
        "version": policy.version,
        "reason": policy.reason,
        "feedback_count": policy.feedback_count,
        "created_unix_ms": policy.created_unix_ms,
        "parameters": json.loads(answer.parameters_json),
    }


def written(content: Mapping[str, Any], path: pathlib.Path) -> None:
    """Write a policy file."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Read a policy file; raise InvalidArgument where it is none."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise InvalidArgument(f"{path} is larger than {LARGEST_FILE_BYTES} bytes")
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path} cannot be read as a policy file") from error
    shaped = isinstance(content, dict) and isinstance(content.get("parameters"), dict)
    if not shaped or content.get("format") != FORMAT or not isinstance(content.get("kind"), str):
        raise InvalidArgument(f"{path} is not a policy file of format {FORMAT}")
    return content


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return how two policies differ: what they are, and each group of numbers.

    For each group: how many numbers it has, how many changed, the largest and the root
    mean square change, and where the largest is.
    """
    heads = ("kind", "version", "reason", "feedback_count")
    return {
        "policies": {
            name: [before.get(name), after.get(name)]
            for name in heads
            if before.get(name) != after.get(name)
        },
        "parameters": {
            name: _group(before["parameters"].get(name), after["parameters"].get(name))
            for name in sorted({*before["parameters"], *after["parameters"]})
        },
    }


def _group(before: Any, after: Any) -> dict[str, Any]:
    old, new = dict(_leaves(before)), dict(_leaves(after))
    changes = {place: _change(old[place], new[place]) for place in old.keys() & new.keys()}
    moved = {place: change for place, change in changes.items() if change != 0.0}
    largest = max(moved, key=lambda place: (moved[place], place)) if moved else ""
    squares = sum(change * change for change in changes.values())
    return {
        "values": len(new),
        "added": len(new.keys() - old.keys()),
        "removed": len(old.keys() - new.keys()),
        "changed": len(moved),
        "largest_change": moved.get(largest, 0.0),
        "at": largest,
        "root_mean_square": math.sqrt(squares / len(changes)) if changes else 0.0,
    }


def _change(old: Any, new: Any) -> float:
    """Return by how much a value changed; 1 where it is not a number."""
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(float(new) - float(old))
    return 0.0 if old == new else 1.0


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, f"{place}.{name}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, f"{place}[{index}]")
    elif value is not None:
        yield place, value
