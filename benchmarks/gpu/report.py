"""The result of a check as JSON and as a page."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any


def write(result: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Write gpu-check.json and gpu-check.md below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, sort_keys=True, default=str)
    (folder / "gpu-check.json").write_text(text + "\n")
    (folder / "gpu-check.md").write_text(page(result))


def page(result: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    device, checked = result["device"], result["conformance"]
    versions = f"torch {device['torch']}, Triton {device['triton']}, CUDA {device['cuda']}"
    lines = [
        "# GPU check",
        "",
        (
            f"{device['name']}, {device['memory_gib']} GiB, {versions}; commit"
            f" `{result['machine']['commit']}`, {result['machine']['at']},"
            f" {result['seconds']} s in all."
        ),
        "",
        (
            f"Conformance: {checked['passed']} cases passed, {len(checked['failed'])} failed,"
            f" {len(checked['left_out'])} left out for time."
        ),
        "",
        *[f"- {name}: {reason}" for name, reason in checked["failed"].items()],
        "",
        "| # | row | bar | reached |",
        "|---|---|---|---|",
        *(line for row in result["rows"] for line in _bars(row)),
        "",
        *(line for row in result["rows"] for line in _values(row)),
    ]
    return "\n".join(lines) + "\n"


def _bars(row: Mapping[str, Any]) -> Iterator[str]:
    place = f"| {row['number']} | {row['name']} |"
    for bar, reached in row.get("bars", {}).items():
        yield f"{place} {bar} | {'yes' if reached else 'no'} |"
    if "not_measured" in row:
        yield f"{place} not measured | {row['not_measured'].splitlines()[0]} |"
    for peer, reason in row.get("missing", {}).items():
        yield f"{place} {peer} | not measured: {reason} |"


def _values(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in row.get("values", {}).items():
        yield f"- {row['number']}. {name}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        if "median" in value:
            return f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
        return "; ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return f"{value:.4g}"
