"""Row 1: one stream, behind contexts of three lengths."""

from __future__ import annotations

import dataclasses

from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import ahead_of_peers

STEPS = 64
FACTORS = {64: 1.8, 1024: 2.2, 4096: 4.0}
SMALLER = {"int10": "keys in ten bits, values in eight", "int8": "keys and values in eight bits"}
"""Kinds of cache that are not the default, by what is told of them."""
LONGEST = max(FACTORS)
SETTINGS: dict[int, dict[str, dict[str, str]]] = {
    **{context: {"": {}} for context in FACTORS},
    LONGEST: {"": {}, **{kind: {"THERMESH_KV_CACHE": kind} for kind in SMALLER}},
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
    """Judge each length by the best peer at it; smaller caches, which are not the
    default, are told at the longest.
    """
    judged = [
        ahead_of_peers(samples, FIGURES[context], factor) for context, factor in FACTORS.items()
    ]
    return [*judged, *(_with_cache(samples, kind) for kind in SMALLER)]


def _with_cache(samples: Samples, kind: str) -> Verdict:
    figure = FIGURES[LONGEST]
    judged = ahead_of_peers(samples, figure, FACTORS[LONGEST], setting=kind)
    label = f"{figure.name}, {SMALLER[kind]}"
    return dataclasses.replace(judged, figure=label, bar="", is_met=None)


ROW = Row(1, "one stream", tuple(FIGURES.values()), verdicts)
