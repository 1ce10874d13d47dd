"""One measurement as a JSON file and as the tables of docs/benchmarks.md."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence

from benchmarks.spread import added, median_interval, summary

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- mesh: begin -->\n", "<!-- mesh: end -->\n"

# Which door is reached through which: the difference is what the hop adds.
THROUGH = (
    ("gateway_grpc", "inference", "gateway, gRPC in"),
    ("gateway_rest", "gateway_grpc", "REST and SSE instead of gRPC"),
    ("gateway_rest", "inference", "gateway, REST in"),
)
NAMES = {
    "extract": "`FeatureService.Extract`, a new text",
    "decide": "`ControllerService.Decide`",
    "inference": "`InferenceService.Generate`, no gateway",
    "gateway_grpc": "`ChatService.Converse`",
    "gateway_rest": "`POST /v1/chat/completions`",
}

Samples = Mapping[str, Sequence[float]]


def save(result: Mapping[str, object]) -> pathlib.Path:
    """Write `result` below benchmarks/results, named by its time and commit."""
    machine = result["machine"]
    assert isinstance(machine, dict)
    stamp = str(machine["at"]).replace(":", "").replace("-", "")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"mesh-{stamp}-{machine['commit']}.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    return path


def publish(result: Mapping[str, object], source: pathlib.Path) -> None:
    """Put the tables of `result` between the markers of the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    note = f"Samples: [`{source.name}`](../benchmarks/results/{source.name}).\n"
    PAGE.write_text(f"{before}{BEGIN}\n{tables(result)}\n{note}\n{END}{after}")


def tables(result: Mapping[str, object]) -> str:
    """Return everything a reader needs of `result`, as Markdown."""
    parts = (
        conditions(result),
        latency_table(result["first_token_seconds"], result["call_seconds"]),
        added_table(result["first_token_seconds"]),
        rate_table(result["tokens_per_second"]),
    )
    return "\n".join(parts)


def conditions(result: Mapping[str, object]) -> str:
    """Return the sentence that says where and how it was measured."""
    machine, options = result["machine"], result["options"]
    assert isinstance(machine, dict)
    assert isinstance(options, dict)
    loads = " / ".join(str(load) for load in machine["load_average"])
    changed = f" with {machine['changed_files']} changed files" if machine["changed_files"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python"
        f" {machine['python']}; commit `{machine['commit']}`{changed}; load average before the"
        f" run {loads}; {result['model']}, at most {options['max_tokens']} tokens an answer,"
        f" {options['rounds']} interleaved rounds, {machine['at']}.\n"
    )


def latency_table(first_token: Samples, calls: Samples) -> str:
    """Return the table of times in milliseconds: calls, then times to first token."""
    rows = [
        "| time, ms | median | quartiles | p95 | n |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows += [_latency_row(NAMES[name], samples) for name, samples in calls.items()]
    rows += [
        _latency_row(f"first token of {NAMES[name]}", samples)
        for name, samples in first_token.items()
    ]
    return "\n".join(rows) + "\n"


def added_table(first_token: Samples) -> str:
    """Return the table of what each hop adds to the time to first token, milliseconds."""
    rows = [
        "| adds to the time to first token, ms | median | 95 % interval of the median |",
        "| --- | ---: | ---: |",
    ]
    for door, behind, label in THROUGH:
        if door in first_token and behind in first_token:
            more = [1000 * sample for sample in added(first_token[behind], first_token[door])]
            low, high = median_interval(more)
            rows.append(f"| {label} | {summary(more).median:+.1f} | {low:+.1f} to {high:+.1f} |")
    return "\n".join(rows) + "\n"


def rate_table(rates: Mapping[str, Samples]) -> str:
    """Return the table of tokens per second, by door and number of streams."""
    rows = [
        "| tokens per second | streams | median | quartiles | n |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for streams, doors in rates.items():
        for name, samples in doors.items():
            figures = summary(samples)
            spread = f"{figures.low:.1f} to {figures.high:.1f}"
            label = NAMES[name] + (", all together" if int(streams) > 1 else "")
            rows.append(
                f"| {label} | {streams} | {figures.median:.1f} | {spread} | {figures.count} |"
            )
    return "\n".join(rows) + "\n"


def _latency_row(label: str, seconds: Sequence[float]) -> str:
    figures = summary([1000 * sample for sample in seconds])
    return (
        f"| {label} | {figures.median:.1f} | {figures.low:.1f} to {figures.high:.1f}"
        f" | {figures.p95:.1f} | {figures.count} |"
    )
