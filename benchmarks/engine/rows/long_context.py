"""Rows 6, 7 and 8: contexts of 8,000 tokens, keys and values in eight bits, and reading
by choice, all against our own that reads everything.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.engine.plan import ROUNDS, Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import told

LENGTH = 8000
HALF, EIGHT, LIGHT = "f16 dense", "int8 dense", "int8 light"
KINDS = [HALF, EIGHT, LIGHT]
LAST = 1024
TEXTS = 2
LEAST_AGREEMENT = 0.987


def _figure(name: str, function: str, unit: str = "tok/s", **arguments: Any) -> Figure:
    rounds = ROUNDS if unit else 1  # what has no unit of time is exact
    call = {"function": f"long_context:{function}", **arguments}
    return Figure(name, "run", call, unit, rounds, has_peers=False, has_trial=False)


DECODE = _figure("decode at 8,000", "decode", kinds=KINDS, length=LENGTH, steps=16)
PREFILL = _figure("prompt of 8,000", "prefill", kinds=[EIGHT, LIGHT], length=LENGTH)
QUALITY = [
    _figure(
        f"quality at 8,000, text {text + 1}",
        "quality",
        unit="",
        kinds=[HALF, EIGHT],
        length=LENGTH,
        last=LAST,
        text=text,
    )
    for text in range(TEXTS)
]
OWN_QUALITY = [
    _figure(
        f"quality of light against dense, text {text + 1}",
        "quality",
        unit="",
        kinds=[EIGHT, LIGHT],
        length=LENGTH,
        last=LAST,
        text=text,
    )
    for text in range(TEXTS)
]
PASSKEYS = {
    kind: _figure(f"passkeys at 8,000, {kind}", "passkeys", unit="", kind=kind, length=LENGTH)
    for kind in (HALF, LIGHT)
}
BYTES = _figure("bytes of a token", "bytes_per_token", unit="")


def decoding(samples: Samples) -> list[Verdict]:
    """Judge the light path by both dense caches."""
    return [
        _ahead(samples, DECODE, HALF, 2.2),
        _ahead(samples, DECODE, EIGHT, 1.5),
        *_qualities(samples),
        _passkeys(samples),
    ]


def prompts(samples: Samples) -> list[Verdict]:
    """Judge the prompt by the dense one; the quality of row 6 is of such prompts too."""
    return [_ahead(samples, PREFILL, EIGHT, 1.6)]


def memory(samples: Samples) -> list[Verdict]:
    """Judge bytes of eight bits by those of half precision; what it costs is told."""
    taken = {kind: values(samples, BYTES.name, ours(), kind) for kind in ("f16", "int8", "means")}
    if not taken["f16"]:
        return []
    half, eight, means = (found[0] for found in taken.values())
    kl = _mean(samples, QUALITY, f"{EIGHT} mean_kl")
    beside = f"{half:,.0f} of two bytes a number; with the means of keys {eight + means:,.0f}"
    if kl is not None:
        beside += f"; mean KL {kl:.1e} nats at 8,000"
    saved = 1 - eight / half
    found = f"{eight:,.0f}, **-{saved:.1%}**"
    return [Verdict("bytes of keys and values of a token", found, beside, "-48 %", saved >= 0.48)]


def _ahead(samples: Samples, figure: Figure, baseline: str, least: float) -> Verdict:
    mine = values(samples, figure.name, ours(), LIGHT)
    base = values(samples, figure.name, ours(), baseline)
    found, is_met = told(mine, "tok/s"), None
    if mine:
        ratio = statistics.median(mine) / statistics.median(base)
        found += f", **{ratio:.2f}x**"
        is_met = ratio >= least if len(mine) >= ROUNDS else None
    beside = f"{baseline} {told(base, 'tok/s')}"
    return Verdict(f"{figure.name}, {LIGHT}", found, beside, f"at least {least:g}x", is_met)


def _qualities(samples: Samples) -> list[Verdict]:
    agreement = _mean(samples, OWN_QUALITY, f"{LIGHT} top_1_agreement")
    if agreement is None:
        return []
    kl = _mean(samples, OWN_QUALITY, f"{LIGHT} mean_kl")
    beside = f"mean KL {kl:.2g} nats; last {LAST} tokens of {TEXTS} texts"
    bar = f"at least {LEAST_AGREEMENT:.1%}"
    name = f"same likeliest token as {EIGHT}"
    return [Verdict(name, f"{agreement:.1%}", beside, bar, agreement >= LEAST_AGREEMENT)]


def _passkeys(samples: Samples) -> Verdict:
    found = {kind: values(samples, one.name, ours()) for kind, one in PASSKEYS.items()}
    if not all(found.values()):
        return Verdict("passkeys found", told([], ""), "", "within 1 point", None)
    light, dense = found[LIGHT][0], found[HALF][0]
    told_of = (f"{LIGHT} {light:.0%}", f"{HALF} {dense:.0%}")
    return Verdict("passkeys found", *told_of, "within 1 point", light >= dense - 0.01)


def _mean(samples: Samples, figures: list[Figure], key: str) -> float | None:
    found = [value for one in figures for value in values(samples, one.name, ours(), key)]
    return statistics.fmean(found) if found else None


DECODING = Row(6, "long contexts", (DECODE, *OWN_QUALITY, *PASSKEYS.values()), decoding)
PROMPTS = Row(7, "long prompts", (PREFILL,), prompts)
MEMORY = Row(8, "memory of keys and values", (BYTES, *QUALITY), memory)
