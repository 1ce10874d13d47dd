"""The report page, made from the study's JSON."""

from __future__ import annotations

from typing import Any

from benchmarks import machine

PAGE = machine.ROOT / "docs" / "control-study.md"
BEGIN, END = "<!-- policy: begin -->\n", "<!-- policy: end -->\n"
_GRIDS = {"T": 0.015, "T x guard": 0.03, "T x guard x cap": 0.03}


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
    product = found["learned"]["T"]["Thompson, the product's settings"]
    rows = [
        (
            "1",
            f"held-out reward against the best static action: {name}",
            f"> 0; aim +{aim:g}",
            _gap(found["learned"][name][learner]["against_static"]),
            found["learned"][name][learner]["against_static"]["lower"] > 0,
        )
        for name, aim in _GRIDS.items()
        for learner in ["Thompson, the product's settings"]
    ]
    rows.append(
        (
            "1",
            "beside it, never a headline: against T = 1.0 without a guard",
            "",
            _gap(product["against_warm"]),
            None,
        )
    )
    rows.append(
        (
            "1",
            "the same action set T, without the stories",
            "",
            _gap(product["without_stories"]),
            None,
        )
    )
    share = product["share_of_headroom_held_out"]
    rows.append(
        (
            "2",
            "headroom of the best action by task won, held-out",
            "at least 80 %",
            f"{share:.0%} (train stream: {product['share_of_headroom_train']:.0%})",
            share >= 0.8,
        )
    )
    rows += [
        (
            "3",
            f"against {name}, tuned with {each['trials']} trials",
            "win or tie",
            _gap(each["ours_minus_it"]),
            each["ours_minus_it"]["upper"] >= 0,
        )
        for name, each in found["rules"].items()
    ]
    if "residual" in found:
        rows += [
            ("4", f"token-level residual {name}", "better, or off", _gap(each), each["lower"] > 0)
            for name, each in found["residual"].items()
            if name.startswith("against")
        ]
    crossed = product["crosses_at"]
    rows.append(
        (
            "5",
            "regret crosses the best static action",
            "at most 1,500",
            "never" if crossed is None else f"{crossed:,}",
            crossed is not None and crossed <= 1500,
        )
    )
    back = found["moved"]["back_after_feedbacks_a_task"]
    rows.append(
        (
            "6",
            "optimum moved: feedback a task until within 0.01",
            "at most 300",
            "never" if back is None else f"{back:.0f}",
            back is not None and back <= 300,
        )
    )
    loss = found["forgotten"]["loss"]
    rows.append(
        (
            "7",
            "loss of other tasks after 2,000 of one (Thompson)",
            "at most 0.01",
            f"{loss:+.4f} (worst seed {found['forgotten']['worst_seed']:+.4f})",
            loss <= 0.01,
        )
    )
    for name, each in found["off_policy"].items():
        rows.append(
            (
                "8",
                f"{name}, n = 1,000, 300 replays",
                "0.032; 90 to 97 %",
                f"RMSE {each['rmse']:.3f}, coverage {each['coverage']:.1%}",
                each["rmse"] <= 0.032 and 0.9 <= each["coverage"] <= 0.97,
            )
        )
    return _table(
        ("row", "figure", "bar", "found", "met"),
        [(*row[:4], {None: "", True: "yes", False: "**no**"}[row[4]]) for row in rows],
    )


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
                _gap(static["headroom"]),
                "",
                "",
            )
        )
        rows += [
            (
                grid,
                name,
                f"{each['value']:.4f}",
                _gap(each["against_static"]),
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
            _gap(each["ours_minus_it"]),
            f"{each['by_task_value']:.4f}",
            _gap(each["ours_minus_it_by_task"]),
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
    )
    return "### Rules\n\n" + _table(heads, rows)


def _judges(found: dict[str, Any]) -> str:
    each = found["learned"]["T"]["Thompson, the product's settings"]["judges"]
    names = {
        "rouge": "ROUGE-L F1, families with a reference",
        "bleu": "sentence BLEU, likewise",
        "fresh": "share of different token trigrams, all families",
    }
    rows = [(names[key], f"{value['value']:.4f}", _gap(value)) for key, value in each.items()]
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
        "mean T",
        "seen as",
    )
    return (
        f"### Live\n\n{live['prompts']} held-out prompts, each asked twice through the mesh with"
        f" the learner on: adaptive {live['adaptive']:.4f}, static {live['static']:.4f},"
        f" difference {_gap(live['against_static'])}; policy version {live['first_version']} to"
        f" {live['last_version']}, {live['seconds']:.0f} s.\n\n" + _table(heads, rows)
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


def _gap(each: dict[str, Any]) -> str:
    return (
        f"{each['mean']:+.4f} [{each['lower']:+.4f}, {each['upper']:+.4f}], n = {each['prompts']:,}"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
