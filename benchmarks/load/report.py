"""The rounds as JSON below benchmarks/results, and as the table of docs/load.md."""

from __future__ import annotations

import importlib
import json
import pathlib
from typing import Any

from benchmarks.load.figures import Figure, Json

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "load.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- load: begin -->\n", "<!-- load: end -->\n"
ROWS = (
    "first",
    "tokens",
    "throughput",
    "gone",
    "leaks",
    "overload",
    "tenants",
    "schemas",
    "page",
    "idle",
)
SAME = ("processor", "cores", "commit")
"""What must not change between the rounds of one row."""


def row(name: str) -> Any:
    """Return the module of a row."""
    return importlib.import_module(f"benchmarks.load.{name}")


def path(name: str) -> pathlib.Path:
    """Return where the rounds of a row are kept."""
    return RESULTS / f"load-{name}.json"


def begun(name: str, machine: Json, *, anew: bool) -> Json:
    """Return the rounds so far, none where they were measured elsewhere or are not wanted."""
    fresh = {"machine": machine, "rounds": [], "seconds": []}
    if anew or not path(name).exists():
        return fresh
    found: Json = json.loads(path(name).read_text())
    is_same = all(found["machine"][key] == machine[key] for key in SAME)
    return found if is_same else fresh


def save(name: str, result: Json) -> None:
    """Write the rounds in one piece."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = path(name).with_suffix(".new")
    partial.write_text(json.dumps(result) + "\n")
    partial.replace(path(name))


def figures(name: str) -> list[Figure]:
    """Return what is told of a row."""
    found: list[Figure] = row(name).figures(json.loads(path(name).read_text())["rounds"])
    return found


def text(name: str) -> str:
    """Return a row for a terminal."""
    lines = [
        f"{figure}: {found} ({bar}{'' if met else ', missed'})"
        for figure, bar, found, met in figures(name)
    ]
    return "\n".join((name, *(f"  {line}" for line in lines)))


def table() -> str:
    """Return every row that was measured, as Markdown."""
    lines = ["| row | figure | bar | found | met |", "| --- | --- | --- | --- | :---: |"]
    notes = []
    for name in ROWS:
        if not path(name).exists():
            continue
        result = json.loads(path(name).read_text())
        for figure, bar, found, met in figures(name):
            lines.append(f"| {name} | {figure} | {bar} | {found} | {'yes' if met else '**no**'} |")
        machine = result["machine"]
        notes.append(
            f"[`{name}`](../benchmarks/results/{path(name).name}): {len(result['rounds'])} rounds,"
            f" {machine['at']}, commit `{machine['commit']}`"
            f"{' with changed files' if machine['changed_files'] else ''},"
            f" {machine['processor']}, {machine['cores']} cores."
        )
    return "\n".join((*lines, "", *(f"- {note}" for note in notes))) + "\n"


def publish() -> None:
    """Put the table between the markers of the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")
