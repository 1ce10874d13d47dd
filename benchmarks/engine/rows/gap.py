"""Row 10: how long 16 running streams are held up while a prompt of 8K joins."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import at_most, told

FIGURE = Figure(
    "worst gap while a prompt of 8K joins 16 streams",
    "run",
    {"function": "gap:worst", "streams": 16, "prompt": 8000},
    unit="median steps",
    has_peers=False,
    has_trial=False,  # takes up to a minute
)
MOST = 2.5


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge the worst gap of any stream in steps; what the prompt took is told."""
    joined = values(samples, FIGURE.name, ours(), "joined_seconds")
    step = values(samples, FIGURE.name, ours(), "step_ms")
    beside = f"step {told(step, 'ms')}; the prompt took {told(joined, 's')}" if step else ""
    return [at_most(samples, FIGURE, MOST, key="worst_in_steps", beside=beside)]


ROW = Row(10, "joining without holding up", (FIGURE,), verdicts)
