"""Every row of the control loop in one table, from what is stored: docs/control.md.

    python -m benchmarks.control

Each row is measured by the command that stands beside it; this one only reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import machine, spread
from benchmarks.features.report import added
from benchmarks.policy import rows as study
from benchmarks.trust import report as trust

PAGE = machine.ROOT / "docs" / "control.md"
RESULTS = machine.ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- control: begin -->\n", "<!-- control: end -->\n"
HEADS = ("row", "figure", "bar", "found", "met", "command", "commit")

Found = dict[str, Any]
Row = study.Row
_MET = {None: "", True: "yes", False: "**no**"}


def loops(found: Found) -> Iterator[Row]:
    """Row 11: a decision, and what a program adds to a token."""
    for name, each in found["decision_us"].items():
        told = f"{each['median']:.0f} us ({each['low']:.0f} to {each['high']:.0f})"
        yield "11", f"a decision, {name}", "50 us", told, each["median"] <= 50
    for name, (more, share) in added(found).items():
        if name != "fixed":
            told, is_met = f"{more:+.0f} us, {share:+.2%}", more <= 90 and share <= 0.015
            yield "11", f"{name}, added to a token", "90 us, 1.5 % of its time", told, is_met


def cost(found: Found) -> Iterator[Row]:
    """Row 11: a vector of features."""
    for name, bar in {"lexical": 2.0, "at a glance": 2.0, "encoder, as served": 15.0}.items():
        each = found["milliseconds"][name]
        told = f"{each['median']:.2f} ms ({each['low']:.2f} to {each['high']:.2f})"
        yield "11", f"features, {name}", f"p50 {bar:g} ms", told, each["median"] <= bar


def first_token(found: Found) -> Iterator[Row]:
    """Row 12."""
    seconds = found["first_token_seconds"]
    more = [1000 * each for each in spread.added(seconds["without"], seconds["with"])]
    (low, high), median = spread.median_interval(more), spread.summary(more).median
    told = f"{median:+.1f} ms [{low:+.1f}, {high:+.1f}], n = {len(more)}"
    yield "12", "added to the first token", "p50 2 ms", told, median <= 2


def tasks(found: Found) -> Iterator[Row]:
    """Row 17."""
    for name in ("held-out", "held-out, later"):
        each = found["parts"][name]["as served"]
        low, high = wilson(each["accuracy"], each["prompts"])
        told = f"{each['accuracy']:.1%} [{low:.1%}, {high:.1%}] of {each['prompts']}"
        yield "17", f"task named right, {name}", "at least 85 %", told, each["accuracy"] >= 0.85


def live(found: Found) -> Iterator[Row]:
    """Row 1, through a running mesh."""
    each = found["against_static"]
    yield "1", "live against the best static action", "> 0", study.gap(each), each["lower"] > 0


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return centre - half, centre + half


def _trusted(part: str, *numbers: str) -> Callable[[Found], Iterator[Row]]:
    """Return the rows of a part of `benchmarks.trust` that have a bar, numbered in order."""

    def told(found: Found) -> Iterator[Row]:
        chosen = [each for each in trust.TABLES[part](found) if each[3] is not None and each[1]]
        for place, (figure, bar, text, met) in enumerate(chosen):
            yield numbers[min(place, len(numbers) - 1)], figure, bar, text, met

    return told


SOURCES: dict[str, tuple[str, Callable[[Found], Iterator[Row]]]] = {
    "policy-study": ("thermesh bench policy", study.verdicts),
    "policy-live": ("thermesh bench policy live", live),
    "trust-propensities": (
        "python -m benchmarks.trust propensities",
        _trusted("propensities", "9"),
    ),
    "trust-costs": ("python -m benchmarks.trust costs", _trusted("costs", "10", "13", "11")),
    "features-loops": ("python -m benchmarks.features loops", loops),
    "features-cost": ("python -m benchmarks.features cost", cost),
    "first-token-overhead": ("python -m benchmarks.mesh.overhead", first_token),
    "trust-attacks": ("python -m benchmarks.trust attacks", _trusted("attacks", "13")),
    "trust-canary": ("python -m benchmarks.trust canary", _trusted("canary", "14")),
    "trust-delivery": ("python -m benchmarks.trust delivery", _trusted("delivery", "15")),
    "trust-replay": ("python -m benchmarks.trust replay", _trusted("replay", "16")),
    "features-tasks": ("python -m benchmarks.features tasks", tasks),
    "trust-soak": ("python -m benchmarks.trust soak", _trusted("soak", "18")),
}


def table() -> str:
    """Return the table of all rows, in order."""
    lines = []
    for name, (command, rows) in SOURCES.items():
        found = json.loads((RESULTS / f"{name}.json").read_text())
        commit = f"`{found['machine']['commit']}`"
        lines += [(*_cells(row), f"`{command}`", commit) for row in rows(found)]
    lines.sort(key=lambda line: int(line[0]))
    marked = [HEADS, ("---",) * len(HEADS), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in marked) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    return (*row[:4], _MET[row[4]])


def main() -> None:
    """Write the table between the markers of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
