"""Publish what `thermesh distil` reaches: results, and the table of its page.

thermesh distil smollm2-135m-instruct small.gguf --bits 4
thermesh distil smollm2-135m-instruct gates.npz --length 1024 --texts 5
python -m benchmarks.distillation small.gguf.json gates.npz.json
"""

from __future__ import annotations

import itertools
import json
import pathlib
import statistics
import sys
from typing import Any

from benchmarks import machine
from services.inference.distil.gating import told

PAGE = machine.ROOT / "docs" / "architecture" / "distillation.md"
PUBLISHED = machine.ROOT / "benchmarks" / "results" / "distillation.json"
BEGIN, END = "<!-- distillation: begin -->\n", "<!-- distillation: end -->\n"


def table(reports: list[dict[str, Any]]) -> str:
    """Return conditions and figures as Markdown."""
    runs = [report for report in reports if "after" in report]
    lines = [
        "| file | training | network | mean KL before | after | same top | perplexity | after |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(line for report in runs for line in _lines(report)),
        "",
        *(_curve(report) for report in runs if report["trained"].get("means")),
        *(_gates(report) for report in reports if "recalls" in report),
    ]
    return "\n".join([*map(_conditions, runs[:1]), *lines])


def _conditions(report: dict[str, Any]) -> str:
    options, host = report["options"], report["machine"]
    tokens = options["held_out"] * options["length"]
    return (
        f"{report['model']}, {tokens:,} held-out tokens, perplexity on the half that people wrote"
        f" (original: {report['original']['perplexity']:.2f}); KL from the original in nats a"
        f" token with its standard error over texts; commit `{host['commit']}` with"
        f" {host['changed_files']} changed files. Trained beside other work on the same cores: a"
        " quiet machine takes more steps in the time.\n"
    )


def _lines(report: dict[str, Any]) -> list[str]:
    done, options, device = report["trained"], report["options"], report["device"]
    tokens = done["steps"] * options["texts_per_step"] * options["length"]
    file = f"{report['bytes'] / 1e6:.1f} MB"
    training = (
        f"{done['seconds']:.0f} s, {done['steps']} steps, {tokens:,} tokens, {device['kind']},"
        f" {device['threads']} thread"
    )
    return [
        f"| {file} | {training} | {_name(report, path)} | {_figures(report, path)} |"
        for path in report["after"]
    ]


def _name(report: dict[str, Any], path: str) -> str:
    if path == "whole":
        return path
    kept = report["light"]
    return f"light: {kept['neurons']} neurons, {kept['heads_per_group']} heads a group"


def _figures(report: dict[str, Any], path: str) -> str:
    before, after = (report[when][path] for when in ("before", "after"))
    error = after["divergence"]["standard_error"]
    return " | ".join(
        [
            f"{before['divergence']['mean']:.4f}",
            f"{after['divergence']['mean']:.4f} ± {error:.4f}",
            f"{before['divergence']['same_top']:.1%} → {after['divergence']['same_top']:.1%}",
            f"{before['perplexity']:.2f}",
            f"{after['perplexity']:.2f}",
        ]
    )


def _curve(report: dict[str, Any]) -> str:
    means = report["trained"]["means"]
    edges = [round(len(means) * fifth / 5) for fifth in range(6)]
    parts = [
        f"{statistics.fmean(means[first:last]):.3f}"
        for first, last in itertools.pairwise(edges)
        if last > first
    ]
    return (
        f"Divergence on the texts of each step before it, whole and light together, in nats: means"
        f" of the fifths of {len(means)} steps {', '.join(parts)}.\n"
    )


def _gates(report: dict[str, Any]) -> str:
    used = report["texts"]
    found = "; ".join(map(told, report["recalls"]))
    return (
        f"Gates, taught by {used['fitted']} texts of {used['tokens']:,} tokens, judged on"
        f" {used['held_out']}: {found}.\n"
    )


def publish(paths: list[pathlib.Path]) -> None:
    """Keep reports as the published ones and put them on the page."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    for report in reports:
        report.setdefault("machine", machine.describe())
    PUBLISHED.write_text(json.dumps(reports) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + table(reports) + END + after, encoding="utf-8")


if __name__ == "__main__":
    publish([pathlib.Path(argument) for argument in sys.argv[1:]])
