"""The study's results as JSON and as the table of docs/control-study.md."""

from __future__ import annotations

import json
import pathlib
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "control-study.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- study: begin -->\n", "<!-- study: end -->\n"


def save(result: dict[str, Any]) -> pathlib.Path:
    """Write `result` below benchmarks/results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "control-study.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def publish(result: dict[str, Any], source: pathlib.Path) -> None:
    """Put the table of `result` between the markers of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    note = f"All figures: [`{source.name}`](../benchmarks/results/{source.name}).\n"
    PAGE.write_text(f"{before}{BEGIN}\n{table(result)}\n{note}\n{END}{after}")


def table(result: dict[str, Any]) -> str:
    """Return the Markdown table: claim, bar, and what the simulation found."""
    lines = ["| row | figure | bar | found | met |", "| ---: | --- | --- | --- | :---: |"]
    lines += [_row(*each) for each in _found(result)]
    machine = result["machine"]
    where = (
        f"\n{result['seeds']} seeds, {result['seconds']} s on one core of {machine['processor']},"
        f" commit `{machine['commit']}`.\n"
    )
    return "\n".join(lines) + "\n" + where


def _row(number: str, figure: str, bar: str, found: str, met: bool | None) -> str:
    mark = "" if met is None else "yes" if met else "**no**"
    return f"| {number} | {figure} | {bar} | {found} | {mark} |"


def _found(result: dict[str, Any]) -> list[tuple[str, str, str, str, bool | None]]:
    rows: list[tuple[str, str, str, str, bool | None]] = []
    for key, each in result.items():
        if not key.startswith("learner: "):
            continue
        name, crossed = key.removeprefix("learner: "), each["regret_crosses_at"]
        share = f"{each['share_of_headroom']:.0%}"
        last = f"{each['last_500']:.4f} ± {each['standard_error']:.4f}, {share}"
        bar = "at least 80 %"
        met = each["share_of_headroom"] >= 0.8
        rows.append(("2", f"mean of the last 500 of 6,000; headroom won: {name}", bar, last, met))
        when = "never" if crossed is None else f"{crossed:,}" if crossed else "never behind it"
        bar, met = "at most 1,500", crossed is not None and crossed <= 1500
        rows.append(("5", f"regret crosses the best static action: {name}", bar, when, met))
    rows.sort(key=lambda row: row[0])
    return rows + _trust(result)


def _trust(result: dict[str, Any]) -> list[tuple[str, str, str, str, bool | None]]:
    back = result["moved"]["back_after_feedbacks_a_task"]
    rows: list[tuple[str, str, str, str, bool | None]] = [
        (
            "6",
            "optimum moved: feedback a task until within 0.01",
            "at most 300",
            f"{back:.0f}" if back else "never",
            back is not None and back <= 300,
        )
    ]
    for name, each in result["forgetting"].items():
        found = f"{each['loss']:+.4f} (worst {each['worst']:+.4f})"
        met = None if "neither" in name else each["loss"] <= 0.01
        rows.append(("7", f"loss of stories after 2,000 facts: {name}", "at most 0.01", found, met))
    for name, each in result["off_policy"]["1000"].items():
        found = f"RMSE {each['rmse']:.3f}, coverage {each['coverage']:.1%}"
        met = each["rmse"] <= 0.032 and 0.90 <= each["coverage"] <= 0.97
        rows.append(("8", f"{name}, n = 1,000", "0.032; 90 to 97 %", found, met))
    chance, poison = result["propensities"], result["poisoned"]
    found = f"mean {chance['mean_weight']:.4f}; {chance['inside']} of {chance['of']} runs"
    met = chance["inside"] == chance["of"]
    rows.append(("9", "importance weights average 1", "within 3 standard errors", found, met))
    found = (
        f"worst {poison['worst_mean_of_200']:.3f}, median {poison['median_worst_of_200']:.3f};"
        f" rolled back after {poison['feedbacks_until_rollback']} feedbacks"
        f" in {poison['runs_rolled_back']} of {poison['runs']}"
    )
    bar, met = f"at least {poison['bar']:.3f}", poison["worst_mean_of_200"] >= poison["bar"]
    rows.append(("13", "10 %, then all feedback flipped: true mean of any 200", bar, found, met))
    canary = result["canaries"]
    false, true = canary["no change"], canary["drop of 0.05"]
    found = (
        f"{false['rolled_back']:.1%} false; {true['rolled_back']:.1%} found,"
        f" median after {true['median_requests']:.0f}"
    )
    met = false["rolled_back"] <= 0.05 and true["rolled_back"] >= 0.95
    rows.append(("14", "canary", "at most 5 % false, at least 95 % found", found, met))
    return rows
