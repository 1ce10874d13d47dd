"""Row 10: how long 16 running streams are held up while a prompt of 8K joins."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import at_most, told

MOST = 2.5
FIGURE = Figure(
    "worst gap while a prompt of 8K joins 16 streams",
    "run",
    {"function": "gap:worst", "streams": 16, "prompt": 8000, "most": MOST},
    unit="median steps",
    has_peers=False,
    has_trial=False,  # takes up to a minute
)


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge the worst gap of any stream in steps; what the prompt took is told."""
    if not values(samples, FIGURE.name, ours(), "step_ms"):
        return []
    found = {
        key: values(samples, FIGURE.name, ours(), key)
        for key in ("p99_in_steps", "before_ms", "after_ms", "joined_seconds", "beyond", "steps")
    }
    beside = (
        f"{sum(found['beyond']):.0f} of {sum(found['steps']):.0f} steps took longer than that;"
        f" 99 of 100 gaps {told(found['p99_in_steps'], 'steps')}; a step took"
        f" {told(found['before_ms'], 'ms')} before and {told(found['after_ms'], 'ms')} after, the"
        f" prompt {told(found['joined_seconds'], 's')}"
    )
    return [at_most(samples, FIGURE, MOST, key="worst_in_steps", beside=beside)]


ROW = Row(10, "joining without holding up", (FIGURE,), verdicts)
