"""The results as JSON below benchmarks/results, and as the tables of docs/trust.md."""

from __future__ import annotations

import json
import pathlib
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "trust.md"
RESULTS = ROOT / "benchmarks" / "results"
Rows = list[tuple[str, str, str, bool]]


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
    lines += [
        f"| {figure} | {bar} | {found} | {'yes' if met else '**no**'} |"
        for figure, bar, found, met in rows
    ]
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


TABLES = {"attacks": attacks}
