"""Publish what `thermesh quantize` reaches: results, the table of its page, the picture.

    thermesh quantize smollm2-135m-instruct small.gguf --curve 3.5,4.5,5,6
    python -m benchmarks.quantisation small.gguf.json

The picture needs matplotlib; without it the other two are written.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys
from typing import Any

from benchmarks import machine

PAGE = machine.ROOT / "docs" / "architecture" / "quantisation.md"
PICTURE = machine.ROOT / "docs" / "pictures" / "quantisation.png"
PUBLISHED = machine.ROOT / "benchmarks" / "results" / "quantisation.json"
BEGIN, END = "<!-- quantisation: begin -->\n", "<!-- quantisation: end -->\n"
KINDS = ("uniform", "mix")


def table(report: dict[str, Any]) -> str:
    """Return conditions and figures as Markdown."""
    options, checks = report["options"], report["checks"]
    tokens = options["held_out"] * options["length"]
    conditions = (
        f"{report['model']}, {tokens:,} held-out tokens ({report['texts']}), seed"
        f" {options['seed']}, commit `{report['machine']['commit']}` with"
        f" {report['machine']['changed_files']} changed files. KL from the original in nats a"
        " token, with its standard error over texts. Megabytes (10^6) of all matrices, the"
        f" embedding included. Estimates against the true divergences of {len(checks)} matrices:"
        f" Spearman {report['rank_correlation']:.2f}.\n"
    )
    lines = [
        conditions,
        "| bits | uniform | MB | mean KL | same top | mix MB | mean KL | same top | ratio |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    return "\n".join([*lines, *(_line(point) for point in report["points"]), ""])


def _line(point: dict[str, Any]) -> str:
    uniform, mix = (point[kind]["divergence"]["mean"] for kind in KINDS)
    columns = [
        f"{point['bits']:g}",
        _format(point["uniform"]),
        *_figures(point["uniform"]),
        *_figures(point["mix"]),
        f"{mix / uniform:.2f}",
    ]
    return f"| {' | '.join(columns)} |"


def _format(entry: dict[str, Any]) -> str:
    bits, group, has_minimum = next(iter(entry["formats"].values()))
    return f"{bits} bits, groups of {group}{', minimum' if has_minimum else ''}"


def _figures(entry: dict[str, Any]) -> list[str]:
    found = entry["divergence"]
    return [
        f"{entry['bytes'] / 1e6:.1f}",
        f"{found['mean']:.4f} ± {found['standard_error']:.4f}",
        f"{found['same_top']:.1%}",
    ]


def draw(report: dict[str, Any]) -> None:
    """Write the picture: divergence over size, one line for each kind."""
    from matplotlib import pyplot as plt  # noqa: PLC0415  # only who publishes needs it

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for kind, marker in zip(KINDS, "so", strict=True):
        entries = {point[kind]["bytes"]: point[kind]["divergence"] for point in report["points"]}
        sizes = [size / 1e6 for size in entries]
        errors = [entry["standard_error"] for entry in entries.values()]
        means = [entry["mean"] for entry in entries.values()]
        axes.errorbar(sizes, means, errors, marker=marker, capsize=3, label=kind)
    axes.set(xlabel="MB of all matrices", ylabel="mean KL, nats a token", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(PICTURE, dpi=120)


def publish(path: pathlib.Path) -> None:
    """Keep a report as the published one and put it on the page."""
    report = json.loads(path.read_text(encoding="utf-8"))
    report.setdefault("machine", machine.describe())
    PUBLISHED.write_text(json.dumps(report) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + table(report) + END + after, encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        draw(report)


if __name__ == "__main__":
    publish(pathlib.Path(sys.argv[1]))
