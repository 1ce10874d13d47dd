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


def train(result: dict[str, Any]) -> str:
    """Return the table of how many layers of the encoder name tasks how well."""
    lines = ["| layers read | right out of fold | right, held-out |", "| ---: | ---: | ---: |"]
    for depth, share in result["accuracy_over_folds"].items():
        is_chosen = int(depth) == result["chosen"]
        row = f"{depth} | {share:.1%} | {result['held_out'][depth]:.1%}"
        lines.append(f"| **{row.replace(' | ', '** | **')}** |" if is_chosen else f"| {row} |")
    lines += ["", f"{result['prompts']} training prompts that stand alone, five folds."]
    lines += ["", "| sure at a glance, out of fold | of all | right |", "| ---: | ---: | ---: |"]
    lines += [
        f"| {float(sure):.0%} and more | {share:.1%} | {right:.1%} |"
        for sure, (share, right) in result["sure"].items()
    ]
    return "\n".join(lines) + "\n"


def tasks(result: dict[str, Any]) -> str:
    """Return the table of accuracy and the confusion matrix with the encoder."""
    found = result["parts"]
    lines = [
        "| prompts | n | path | right | abstained | wrong | right when named | ECE |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, paths in found.items():
        lines += [_accuracy_row(name, path, each) for path, each in paths.items()]
    lines += ["", "Confusion as served, English held-out (rows: meant; columns: named):", ""]
    short = [task.replace("question_answering", "QA") for task in TASKS]
    lines += [f"| | {' | '.join(short)} | abstained |", "| --- |" + " ---: |" * (len(TASKS) + 1)]
    for task, row in zip(short, found["held-out"]["as served"]["confusion"], strict=True):
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
    bars = {"lexical": 2.0, "at a glance": 2.0, "encoder, as served": 15.0}
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


def forecast(result: dict[str, Any]) -> str:
    """Return the table of what forecasts miss by, component for component."""
    unit = {"prefill_seconds": ("ms", 1e3), "total_seconds": ("s", 1.0)}
    lines = [
        "| component | forecast by | MAE | MAPE | pinball | at or below |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, ways in result["components"].items():
        word, scale = unit.get(name, ("tokens", 1.0))
        for way, each in ways.items():
            lines.append(
                f"| {name} | {way} | {each['mae'] * scale:.3g} {word} | {each['mape']:.0%}"
                f" | {each['pinball'] * scale:.3g} | {each['covered']:.0%} |"
            )
    sizes, budget = result["requests"], result["budget"]
    lines += [
        "",
        (
            f"{sizes['train']} requests to learn from, {sizes['held_out']} held out; of these"
            f" {result['timed']['train']} and {result['timed']['held_out']} were timed."
            f" {result['at_longest']:.0%} of all answers reached {result['longest']} tokens, where"
            " decoding ended."
        ),
        "",
        _bound_line(budget),
    ]
    return "\n".join(lines) + "\n"


def _bound_line(budget: dict[str, Any]) -> str:
    if not budget["applies"]:
        return "The bound on the token budget applies to no held-out request."
    return (
        f"The bound on the token budget applies to {budget['applies']:.0%} of held-out requests"
        f" (median {budget['median_bound']:.0f} tokens) and would have cut {budget['cuts']:.1%}"
        " of their answers."
    )


def partials(result: dict[str, Any]) -> str:
    """Return what reading by segments loses and saves."""
    lines = [
        (
            "| texts of several segments | n | cosine, median | cosine, worst tenth"
            " | task right, whole | task right, segments |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, each in result["worth"].items():
        lines.append(
            f"| {name} | {each['texts']} | {each['median_cosine']:.3f}"
            f" | {each['tenth_cosine']:.3f} | {each['accuracy_whole']:.1%}"
            f" | {each['accuracy_segments']:.1%} |"
        )
    lines += ["", "| partial | whole, ms | by segments, ms |", "| --- | ---: | ---: |"]
    for name, each in result["milliseconds"].items():
        found = [each[way] for way in ("whole", "segments")]
        cells = [
            f"{way:.0f}"
            if isinstance(way, float)
            else f"{way['median']:.2f} ({way['low']:.2f} to {way['high']:.2f})"
            for way in found
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def loops(result: dict[str, Any]) -> str:
    """Return what a forecast adds to a decision, and a program to a token."""
    lines = ["| | median, us | quartiles | added | bar |", "| --- | ---: | ---: | ---: | --- |"]
    bare = result["decision_us"]["without"]["median"]
    for name, each in result["decision_us"].items():
        more = each["median"] - bare
        lines.append(
            f"| a decision, {name} | {each['median']:.1f} | {each['low']:.1f} to"
            f" {each['high']:.1f} | {more:+.1f} us | {_bar(each['median'], 50.0)} |"
        )
    for by, drawn in result["draw_us"].items():
        for name, each in drawn.items():
            told = f"| drawing a token, {by}, {name} | {each['median']:.0f} | {each['low']:.0f} to"
            lines.append(f"{told} {each['high']:.0f} | {_added(result, by, name)} |")
    lines += ["", f"A token takes the engine {result['token_us']:.0f} us, alone on one thread."]
    return "\n".join(lines) + "\n"


def added(found: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return what each program adds to a token where it is served: microseconds, share."""
    drawn = found["draw_us"][found["served_by"]]
    more = {name: each["median"] - drawn["fixed"]["median"] for name, each in drawn.items()}
    return {name: (each, each / found["token_us"]) for name, each in more.items()}


def _added(result: dict[str, Any], by: str, name: str) -> str:
    """Return what the program adds where it is served, and whether that meets its bar."""
    if by != result["served_by"] or name == "fixed":
        return "| "
    more, share = added(result)[name]
    met = "met" if share <= 0.015 else "**missed**"
    return f"{more:+.0f} us, {share:+.2%} of a token | {_bar(more, 90.0)}, 1.5 %: {met}"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "train": train,
    "tasks": tasks,
    "ablation": ablation,
    "reward": reward,
    "cost": cost,
    "forecast": forecast,
    "partials": partials,
    "loops": loops,
}
