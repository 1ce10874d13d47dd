"""Row 2: prompts, up to their first token."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import ahead_of_peers

FACTORS = {128: 1.2, 512: 1.3, 2048: 1.5}
FIGURES = {
    tokens: Figure(f"prompt of {tokens:,}", "prefill", {"tokens": tokens}) for tokens in FACTORS
}


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge each length by the best peer at it."""
    return [ahead_of_peers(samples, FIGURES[tokens], factor) for tokens, factor in FACTORS.items()]


ROW = Row(2, "prompts", tuple(FIGURES.values()), verdicts)
