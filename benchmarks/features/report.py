"""The results as JSON below benchmarks/results, and as the tables of docs/features.md."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from thermesh.features import TASKS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "features.md"
RESULTS = ROOT / "benchmarks" / "results"


def save(part: str, result: dict[str, Any]) -> None:
    """Write the result of one part."""
    (RESULTS / f"features-{part}.json").write_text(json.dumps(result, indent=1) + "\n")


def publish() -> None:
    """Put each stored result between the markers of its part on the page."""
    page = PAGE.read_text()
    for part, table in TABLES.items():
        path = RESULTS / f"features-{part}.json"
        begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->\n"
        if path.exists() and begin in page:
            before, _, rest = page.partition(begin)
            result = json.loads(path.read_text())
            text = table(result) + _origin(result, path.name)
            page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(page)


def tasks(result: dict[str, Any]) -> str:
    """Return the table of accuracy and the confusion matrix with the encoder."""
    found = result["parts"]
    lines = [
        "| prompts | n | path | right | abstained | wrong | right when named | ECE |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, paths in found.items():
        lines += [_accuracy_row(name, path, each) for path, each in paths.items()]
    lines += ["", "Confusion with the encoder, English held-out (rows: meant; columns: named):", ""]
    short = [task.replace("question_answering", "QA") for task in TASKS]
    lines += [f"| | {' | '.join(short)} | abstained |", "| --- |" + " ---: |" * (len(TASKS) + 1)]
    for task, row in zip(short, found["held-out"]["encoder"]["confusion"], strict=True):
        lines.append(f"| {task} | {' | '.join(map(str, row))} |")
    return "\n".join(lines) + "\n"


def ablation(result: dict[str, Any]) -> str:
    """Return the table of what each group of features tells of the task."""
    whole = result["all_but_task"]
    lines = ["| features | alone | all others but the task's |", "| --- | ---: | ---: |"]
    for name, each in result["groups"].items():
        rest = f"{each['without']:.1%}" if "without" in each else f"{whole:.1%}"
        lines.append(f"| {name} | {each['alone']:.1%} | {rest} |")
    lines += ["", f"{result['prompts']} prompts; the most frequent task: {result['majority']:.1%}."]
    return "\n".join(lines) + "\n"


def reward(result: dict[str, Any]) -> str:
    """Return the table of what each group of features earns over the best static."""
    lines = ["| known | gain over best static | 95 % interval |", "| --- | ---: | ---: |"]
    for name, each in result["gain"].items():
        lines.append(
            f"| {name} | {each['mean']:+.4f} | {each['low']:+.4f} to {each['high']:+.4f} |"
        )
    static = result["static_reward"]
    lines += ["", f"{result['prompts']} held-out prompts; best static earns {static:.4f}."]
    return "\n".join(lines) + "\n"


def cost(result: dict[str, Any]) -> str:
    """Return the table of what one vector costs."""
    bars = {"lexical": 2.0, "encoder, as served": 15.0}
    lines = [
        "| path | median, ms | quartiles | p95 | n | bar |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, each in result["milliseconds"].items():
        lines.append(
            f"| {name} | {each['median']:.2f} | {each['low']:.2f} to {each['high']:.2f}"
            f" | {each['p95']:.2f} | {each['count']} | {_bar(each['median'], bars.get(name))} |"
        )
    lines += [
        "",
        (
            f"Served with products of {result['served_type']}; cosine to float32"
            f" {result['cosine']:.5f}."
        ),
    ]
    return "\n".join(lines) + "\n"


def _bar(found: float, bar: float | None) -> str:
    if bar is None:
        return ""
    return f"<= {bar:g}: {'met' if found <= bar else '**missed**'}"


def _accuracy_row(name: str, path: str, each: dict[str, Any]) -> str:
    named = each["right_when_named"]
    return (
        f"| {name} | {each['prompts']} | {path} | {each['accuracy']:.1%} | {each['abstained']:.1%}"
        f" | {each['wrong']:.1%} | {'-' if named is None else f'{named:.1%}'}"
        f" | {each['calibration_error']:.3f} |"
    )


def _origin(result: dict[str, Any], name: str) -> str:
    machine = result["machine"]
    return (
        f"\n{machine['processor']}, commit `{machine['commit']}`.\n"
        f"All figures: [`{name}`](../benchmarks/results/{name}).\n"
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "tasks": tasks,
    "ablation": ablation,
    "reward": reward,
    "cost": cost,
}
