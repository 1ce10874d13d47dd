"""Row 1: one stream, behind contexts of three lengths."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import ahead_of_peers

STEPS = 64
FACTORS = {64: 1.8, 1024: 2.2, 4096: 4.0}
FIGURES = {
    context: Figure(f"decode at {context:,}", "decode", {"context": context, "steps": STEPS})
    for context in FACTORS
}


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge each length by the best peer at it."""
    return [
        ahead_of_peers(samples, FIGURES[context], factor) for context, factor in FACTORS.items()
    ]


ROW = Row(1, "one stream", tuple(FIGURES.values()), verdicts)
