"""The report page, made from the study's JSON."""

from __future__ import annotations

from typing import Any

from benchmarks import machine
from benchmarks.policy.rows import PRODUCT, gap, verdicts

PAGE = machine.ROOT / "docs" / "control-study.md"
BEGIN, END = "<!-- policy: begin -->\n", "<!-- policy: end -->\n"


def publish(found: dict[str, Any]) -> None:
    """Put the tables of `found` between the markers of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{page(found)}\n{END}{after}")


def page(found: dict[str, Any]) -> str:
    """Return everything that is made from the JSON."""
    parts = [_rows(found), _coverage(found), _learners(found), _rules(found), _judges(found)]
    parts += [_newborn(found), _residual(found), _live(found), _where(found)]
    return "\n".join(part for part in parts if part)


def _rows(found: dict[str, Any]) -> str:
    told = {None: "", True: "yes", False: "**no**"}
    heads = ("row", "figure", "bar", "found", "met")
    return _table(heads, [(*row[:4], told[row[4]]) for row in verdicts(found)])


def _coverage(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            each["level"],
            each["task"],
            str(each["cap"]),
            str(each["train"]),
            str(each["held_out"]),
            str(each["answers"]),
        )
        for name, each in found["coverage"].items()
    ]
    heads = ("family", "level", "task", "cap", "train prompts", "held-out", "prompts x samples")
    return "### What was decoded\n\n" + _table(heads, rows)


def _learners(found: dict[str, Any]) -> str:
    rows = []
    for grid, learners in found["learned"].items():
        static = found["statics"][grid]
        rows.append(
            (grid, f"static: {static['static']}", f"{static['static_value']:.4f}", "", "", "")
        )
        rows.append(
            (
                grid,
                "best by task on train",
                f"{static['by_task_value']:.4f}",
                gap(static["headroom"]),
                "",
                "",
            )
        )
        rows += [
            (
                grid,
                name,
                f"{each['value']:.4f}",
                gap(each["against_static"]),
                "never" if each["crosses_at"] is None else f"{each['crosses_at']:,}",
                f"{each['tokens']:.1f}",
            )
            for name, each in learners.items()
            if name != "tuning"
        ]
    heads = ("actions", "policy", "held-out R", "minus static", "crosses at", "tokens")
    return "### Learners\n\n" + _table(heads, rows)


def _rules(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            each["setting"],
            f"{each['value']:.4f}",
            gap(each["ours_minus_it"]),
            f"{each['by_task_value']:.4f}",
            gap(each["ours_minus_it_by_task"]),
            gap(each["informed_minus_it_by_task"]),
            gap(each["leading_minus_it_by_task"]),
            f"{each['as_few_by_task_value']:.4f}",
            gap(each["ours_minus_it_as_few_by_task"]),
        )
        for name, each in found["rules"].items()
    ]
    heads = (
        "rule",
        "best setting on train",
        "held-out R",
        "Thompson minus it",
        "tuned by task",
        "Thompson minus that",
        "Thompson over T x cap from as many answers minus that",
        "the same without exploring",
        "by task from as few answers as ours",
        "Thompson minus that",
    )
    return "### Rules\n\n" + _table(heads, rows)


def _judges(found: dict[str, Any]) -> str:
    each = found["learned"]["T"][PRODUCT]["judges"]
    names = {
        "rouge": "ROUGE-L F1, families with a reference",
        "bleu": "sentence BLEU, likewise",
        "fresh": "share of different token trigrams, all families",
    }
    rows = [(names[key], f"{value['value']:.4f}", gap(value)) for key, value in each.items()]
    return "### Judges that drove nothing\n\n" + _table(
        ("metric", "Thompson", "minus static"), rows
    )


def _newborn(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{each['first_500']:.4f} ± {each['first_500_error']:.4f}",
            f"{each['last_500']:.4f} ± {each['last_500_error']:.4f}",
        )
        for name, each in found["newborn"]["policies"].items()
    ]
    heads = ("a new installation begins with", "first 500", "last 500 of 2,000")
    note = (
        f"\nBest static {found['newborn']['best_static']:.4f}, best by task"
        f" {found['newborn']['best_by_task']:.4f}, both in hindsight.\n"
    )
    return "### The first day, on held-out prompts\n\n" + _table(heads, rows) + note


def _residual(found: dict[str, Any]) -> str:
    if "residual" not in found:
        return ""
    slopes = ", ".join(f"{name} {slope:+g}" for name, slope in found["residual"]["slopes"].items())
    return f"Slopes of the residual chosen on train prompts: {slopes}.\n"


def _live(found: dict[str, Any]) -> str:
    if "live" not in found:
        return ""
    live = found["live"]
    rows = [
        (
            name,
            f"{each['adaptive']:.3f}",
            f"{each['static']:.3f}",
            f"{each['against_static']['mean']:+.3f}",
            f"{each['mean_temperature']:.2f}",
            ", ".join(
                f"{task or 'abstained'} {count}" for task, count in each["tasks_seen"].items()
            ),
        )
        for name, each in live["by_family"].items()
    ]
    heads = (
        "family",
        "adaptive",
        f"static T = {live['static_temperature']:g}",
        "difference",
        "mean T",
        "seen as",
    )
    return (
        f"### Live\n\n{live['prompts']:,} held-out prompts, each asked twice through the mesh with"
        f" the learner on: adaptive {live['adaptive']:.4f}, static {live['static']:.4f},"
        f" difference {gap(live['against_static'])}; {live['decided']:,} decided in time, by"
        f" policy versions {live['first_version']} to {live['last_version']:,}.\n\n"
        + _table(heads, rows)
    )


def _where(found: dict[str, Any]) -> str:
    about, place = found["matrix"], found["machine"]
    return (
        f"Matrix: thermesh {about['version']}, commit `{about['commit']}` with the study's own"
        f" changes, model {about['model']} (sha256 `{about['model_sha256'][:12]}`), C++ kernels."
        f" Replay: {found['seeds']} seeds, {found['seconds']:.0f} s on one core of"
        f" {place['processor']}, commit `{place['commit']}`. All figures:"
        " [`policy-study.json`](../benchmarks/results/policy-study.json).\n"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
