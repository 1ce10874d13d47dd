"""The results as JSON below benchmarks/results, and as the tables of docs/trust.md."""

from __future__ import annotations

import json
import pathlib
import statistics
from typing import Any

from services.controller.policies.policy import KINDS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "trust.md"
RESULTS = ROOT / "benchmarks" / "results"
Rows = list[tuple[str, str, str, bool | None]]


_MET = {True: "yes", False: "**no**", None: ""}


def save(part: str, result: dict[str, Any]) -> None:
    """Write the result of one part."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"trust-{part}.json").write_text(json.dumps(result, indent=1) + "\n")


def publish() -> None:
    """Put each stored result between the markers of its part on the page."""
    page = PAGE.read_text()
    for part, rows in TABLES.items():
        path = RESULTS / f"trust-{part}.json"
        begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->\n"
        if path.exists() and begin in page:
            before, _, rest = page.partition(begin)
            text = table(rows(result := json.loads(path.read_text())), result, path.name)
            page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(page)


def table(rows: Rows, result: dict[str, Any], name: str) -> str:
    """Return a Markdown table of figure, bar, what was found, and whether it was met."""
    lines = ["| figure | bar | found | met |", "| --- | --- | --- | :---: |"]
    lines += [f"| {figure} | {bar} | {found} | {_MET[met]} |" for figure, bar, found, met in rows]
    machine = result["machine"]
    lines += [
        "",
        f"{machine['processor']}, commit `{machine['commit']}`, {result['seconds']} s.",
        f"All figures: [`{name}`](../benchmarks/results/{name}).",
    ]
    return "\n".join(lines) + "\n"


def attacks(result: dict[str, Any]) -> Rows:
    """Row 13."""
    return [
        (
            f"{name}: worst mean of 200 against the best static",
            "at least -0.020",
            (
                f"{each['worst_of_200']:+.3f}, median {each['median_worst_of_200']:+.3f};"
                f" holds in {each['held']} of {each['runs']} runs"
            ),
            each["held"] == each["runs"],
        )
        for name, each in result.items()
        if isinstance(each, dict) and "worst_of_200" in each
    ]


def canary(result: dict[str, Any]) -> Rows:
    """Row 14."""
    return [
        row
        for traffic, label in (("simulated", "simulated users"), ("recorded", "recorded rewards"))
        for row in _trials(label, result[traffic])
    ]


def _trials(label: str, found: dict[str, Any]) -> Rows:
    same, lower = found["no change"], found["everywhere"]
    alone = {name: each for name, each in found.items() if name.startswith("only")}
    name = min(alone, key=lambda each: float(alone[each]["rolled_back"]))
    least, share = alone[name], lower["rolled_back"]
    return [
        (
            f"{label}, candidate without change: rolled back",
            "at most 5 %",
            f"{same['rolled_back']:.1%} of {same['runs']}; promoted {same['promoted']:.1%}",
            max(same["rolled_back"], same["promoted"]) <= 0.05,
        ),
        (
            f"{label}, 0.05 less everywhere: found within 500 of its requests",
            "at least 95 %",
            f"{share:.1%} of {lower['runs']}, median after {lower['median_requests']:.0f}",
            share >= 0.95,
        ),
        (
            f"{label}, the same mean drop in one task alone: found where it is hardest ({name})",
            "",
            f"{least['rolled_back']:.1%} of {least['runs']}",
            None,
        ),
    ]


def propensities(result: dict[str, Any]) -> Rows:
    """Row 9."""
    rows: Rows = []
    for kind in KINDS:
        each = result[kind]
        mean, error, count = each["mean"], each["standard_error"], each["decisions"]
        found = f"{mean:.4f} ± {error:.4f} of {count:,}, effectively {each['effective']:,.0f}"
        is_one = abs(mean - 1.0) <= 3.0 * error
        rows.append(
            (f"mean importance weight, {kind}", "1 within 3 standard errors", found, is_one)
        )
        whole = f"{each['whole'] / count:.0%} of {count:,}"
        figure = f"records with version, seed and propensity, {kind}"
        rows.append((figure, "100 %", whole, each["whole"] == count))
    return rows


def replay(result: dict[str, Any]) -> Rows:
    """Row 16."""
    kinds = result["by_kind"]
    total = {
        name: sum(each[name] for each in kinds.values()) for name in ("answers", "tokens", "differ")
    }
    what = f"{total['answers']} answers, {result['at_once']} at once, then each alone"
    rows: Rows = [
        (
            f"{what}: differ in any bit",
            "0",
            (
                f"{total['differ']} of {total['answers']}, {total['tokens']:,} tokens;"
                f" {result['several_temperatures']} answers with more than one temperature"
            ),
            total["differ"] == 0,
        )
    ]
    for name, each in kinds.items():
        rows.append(
            (name, "", f"{each['differ']} of {each['answers']}, {each['tokens']:,} tokens", None)
        )
    return rows


def delivery(result: dict[str, Any]) -> Rows:
    """Row 15."""
    slices = result["slices"]
    total = {name: sum(each[name] for each in slices) for name in ("feedback", "lost", "double")}
    kills, restarts = (sum(each[n] for each in slices) for n in ("kills", "redis_restarts"))
    equal = all(each["bit_equal"] for each in slices)
    seconds = sum(each["applied_seconds"] for each in slices)
    what = f"{total['feedback']:,} pieces, {kills} kills of the worker, {restarts} of Redis"
    rate = f"{total['feedback'] / seconds:,.0f} a second, outcomes and kills included"
    return [
        (f"{what}: lost", "0", f"{total['lost']}", total["lost"] == 0),
        ("counted twice", "0", f"{total['double']}", total["double"] == 0),
        ("state against single delivery", "bit-equal", "equal" if equal else "not equal", equal),
        ("sent, learned and published", "", rate, True),
    ]


def soak(result: dict[str, Any]) -> Rows:
    """Row 18."""
    share = result["at_next_boundary"] / result["applied"]
    taken = f"{share:.2%} of {result['applied']:,} applied"
    none = f"0 after {result['sent']:,} changes"  # else the soak fails, and tells nothing
    return [
        ("a change takes hold at the next token boundary", "at least 99 %", taken, share >= 0.99),
        ("tokens under a wrong revision", "0", none, True),
    ]


def costs(result: dict[str, Any]) -> Rows:
    """Rows 10, 11 and the rollback of 13."""
    fresh = result["freshness"]
    rows: Rows = [
        (
            "feedback accepted to new policy serving",
            "p50 200 ms, p99 1,000 ms",
            (
                f"p50 {fresh['p50_ms']:.0f} ms, p99 {fresh['p99_ms']:.0f} ms,"
                f" worst {fresh['worst_ms']:.0f} ms of {fresh['samples']}"
            ),
            fresh["p50_ms"] <= 200 and fresh["p99_ms"] <= 1000,
        ),
        _rollback(result["rollback"]["milliseconds"]),
    ]
    for kind, each in result["decision"].items():
        asked, plain = each["apply"], each["bypass"]
        spread = f"{min(asked['rounds_us']):.0f} to {max(asked['rounds_us']):.0f}"
        found = f"{asked['median_us']:.0f} us ({spread}); {plain['median_us']:.0f} us in bypass"
        rows.append((f"decision from features: {kind}", "50 us", found, asked["median_us"] <= 50))
    return rows


def _rollback(milliseconds: list[float]) -> tuple[str, str, str, bool]:
    median, worst = statistics.median(milliseconds), max(milliseconds)
    return (
        "the piece that raises the alarm accepted, to the rollback serving",
        "5 s",
        f"median {median:.0f} ms, worst {worst:.0f} ms of {len(milliseconds)}",
        worst <= 5000,
    )


TABLES = {
    "costs": costs,
    "attacks": attacks,
    "canary": canary,
    "propensities": propensities,
    "delivery": delivery,
    "replay": replay,
    "soak": soak,
}
