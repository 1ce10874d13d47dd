"""The tables of docs/benchmarks.md, one for each machine, made from files of samples.

python -m benchmarks.engine.report run.json   # keep it as what its machine has published
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

from benchmarks.engine.plan import OURS, Row, Verdict
from benchmarks.engine.rows import ROWS
from benchmarks.engine.verdicts import NOT_MEASURED

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- engine: begin -->\n", "<!-- engine: end -->\n"


def read(path: pathlib.Path) -> dict[str, Any]:
    """Return the content of a file of samples."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def place(result: dict[str, Any]) -> pathlib.Path:
    """Return where a run is published: each machine has a file of its own, so that a run
    replaces what the same machine has published and stands beside the others.
    """
    plain = re.sub(r"\(\w+\)", "", machine_of(result)).lower()
    return RESULTS / f"engine-{'-'.join(re.findall(r'[a-z0-9.]+', plain))}.json"


def published() -> list[pathlib.Path]:
    """Return the published runs, one of each machine."""
    return sorted(RESULTS.glob("engine-*.json"))


def machine_of(result: dict[str, Any]) -> str:
    """Return processor, cores and the tier of our kernels: a processor's name alone may hide
    what vectors it has, above all in a virtual machine.
    """
    machine, own = result["machine"], result["contenders"].get(OURS, {})
    tier = own.get("kernels", "no kernels of ours").removeprefix("cpu-")
    return f"{machine['processor']}, {machine['cores']} cores, {tier}"


def sections() -> str:
    """Return the tables of all machines, each below the machine's name."""
    runs = map(read, published())
    return "\n".join(f"### {machine_of(run)}\n\n{table(run)}" for run in runs)


def table(result: dict[str, Any]) -> str:
    """Return conditions, verdicts and what failed, as Markdown."""
    lines = [
        conditions(result),
        "| row | figure | Thermesh | beside it | bar | met |",
        "| ---: | --- | --- | --- | --- | :---: |",
    ]
    for row in ROWS.values():
        told = [each for each in row.verdicts(result["samples"]) if each.found != NOT_MEASURED]
        lines += [_line(row, verdict) for verdict in told]
    return "\n".join([*lines, "", *_notes(result)])


def conditions(result: dict[str, Any]) -> str:
    """Return the sentences that say where and how it was measured."""
    machine, slices = result["machine"], result["slices"]
    loads = [each["load_average"][0] for each in slices]
    spent = sum(each["seconds"] for each in slices) / 60
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB;"
        f" {_commits(result)}; {result['model']}; {spent:.0f} minutes in"
        f" {len(slices)} slices from {slices[0].get('at', machine['at'])} on, load average before"
        f" a slice {min(loads)} to {max(loads)}. Medians with quartiles.\n"
    )


def _commits(result: dict[str, Any]) -> str:
    """Return the commit of all figures, or which were measured at which."""
    last, commits_of = result["machine"], result.get("commits", {})
    changed = f" with {last['changed_files']} changed files" if last["changed_files"] else ""
    commits: dict[str, dict[int, None]] = {}
    for row in ROWS.values():
        for figure in row.figures:
            if figure.name in commits_of:
                commits.setdefault(commits_of[figure.name], {})[row.number] = None
    if set(commits) <= {last["commit"]}:
        return f"commit `{last['commit']}`{changed}"
    told = [f"`{name}` (rows {', '.join(map(str, rows))})" for name, rows in commits.items()]
    return f"commits {', '.join(told)}{changed}"


def publish(path: pathlib.Path) -> None:
    """Keep a file as what its machine has published and put all tables on the page."""
    result = read(path)
    place(result).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{sections()}\n{END}{after}", encoding="utf-8")


def _line(row: Row, verdict: Verdict) -> str:
    met = "" if verdict.is_met is None else "yes" if verdict.is_met else "**no**"
    cells = (str(row.number), verdict.figure, verdict.found, verdict.beside, verdict.bar, met)
    return f"| {' | '.join(cells)} |"


def _notes(result: dict[str, Any]) -> list[str]:
    engines = sorted({each["engine"] for each in result["contenders"].values()})
    notes = [f"Engines: {', '.join(engines)}."] if engines else []
    figures = {figure.name for row in ROWS.values() for figure in row.figures}
    if missing := sorted(figures - set(result["samples"])):
        notes.append(f"Not measured in this run: {', '.join(missing)}.")
    for figure, failed in result["failures"].items():
        notes += [f"{name} took no part in “{figure}”: it failed." for name in failed]
    return [*notes, ""]


if __name__ == "__main__":
    publish(pathlib.Path(sys.argv[1]))
