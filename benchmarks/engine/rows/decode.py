"""Row 1: one stream, behind contexts of three lengths."""

from __future__ import annotations

import dataclasses

from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import ahead_of_peers

STEPS = 64
FACTORS = {64: 1.8, 1024: 2.2, 4096: 4.0}
EIGHT_BITS = "int8"
LONGEST = max(FACTORS)
SETTINGS: dict[int, dict[str, dict[str, str]]] = {
    context: {"": {}, EIGHT_BITS: {"THERMESH_KV_CACHE": "int8"}} if context == LONGEST else {"": {}}
    for context in FACTORS
}
FIGURES = {
    context: Figure(
        f"decode at {context:,}",
        "decode",
        {"context": context, "steps": STEPS},
        settings=SETTINGS[context],
    )
    for context in FACTORS
}


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge each length by the best peer at it; a cache in eight bits, which is not the
    default, is told at the longest.
    """
    judged = [
        ahead_of_peers(samples, FIGURES[context], factor) for context, factor in FACTORS.items()
    ]
    return [*judged, _in_eight_bits(samples)]


def _in_eight_bits(samples: Samples) -> Verdict:
    figure = FIGURES[LONGEST]
    judged = ahead_of_peers(samples, figure, FACTORS[LONGEST], setting=EIGHT_BITS)
    label = f"{figure.name}, keys and values in eight bits"
    return dataclasses.replace(judged, figure=label, bar="", is_met=None)


ROW = Row(1, "one stream", tuple(FIGURES.values()), verdicts)
