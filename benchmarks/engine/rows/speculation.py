"""Row 12: guesses without a draft model, on text that is copied and on text that is not."""

from __future__ import annotations

import statistics

from benchmarks.engine.plan import ROUNDS, Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import told

TEMPERATURES = (0.0, 0.7)
LEAST = {"copying": 1.5, "free": 0.98}
ACCEPTANCE_AT = (0.0, 0.3, 0.7, 1.0, 1.5)
FIGURES = {
    (text, temperature): Figure(
        f"guesses, {text}, T = {temperature:g}",
        "run",
        {"function": "speculation:rates", "text": text, "temperature": temperature},
        has_peers=False,
        has_trial=False,
    )
    for text in LEAST
    for temperature in TEMPERATURES
}
ACCEPTANCE = {
    (text, temperature): Figure(
        f"guesses that come true, {text}, T = {temperature:g}",
        "run",
        {"function": "speculation:accepted", "text": text, "temperature": temperature},
        unit="tokens",
        has_peers=False,
        has_trial=False,
    )
    for text in LEAST
    for temperature in ACCEPTANCE_AT
}


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge speed by our own without guesses, and that greedy outputs are the same."""
    speeds = [
        _speed(samples, figure, LEAST[text] if temperature == 0 else 0.0)
        for (text, temperature), figure in FIGURES.items()
    ]
    return [*speeds, *_same(samples), *(_acceptance(samples, text) for text in LEAST)]


def _speed(samples: Samples, figure: Figure, least: float) -> Verdict:
    mine = values(samples, figure.name, ours(), "with")
    base = values(samples, figure.name, ours(), "without")
    found, is_met = told(mine, figure.unit), None
    if mine:
        # Of each round: both took turns in it.
        ratio = statistics.median(each / other for each, other in zip(mine, base, strict=True))
        found += f", **{ratio:.2f}x**"
        if least and len(mine) >= ROUNDS:
            is_met = ratio >= least
    bar = f"at least {least:g}x without guesses" if least else ""
    return Verdict(figure.name, found, f"without {told(base, figure.unit)}", bar, is_met)


def _same(samples: Samples) -> list[Verdict]:
    found = [each for one in FIGURES.values() for each in values(samples, one.name, ours(), "same")]
    if not found:
        return []
    told_of = f"{sum(found):.0f} of {len(found)} rounds"
    return [Verdict("same tokens as without guesses", told_of, "", "all", all(found))]


def _acceptance(samples: Samples, text: str) -> Verdict:
    """Tell how many guesses come true at each temperature; the controller's latency needs it."""
    shares = []
    for temperature in ACCEPTANCE_AT:
        name = ACCEPTANCE[text, temperature].name
        drafted = sum(values(samples, name, ours(), "drafted"))
        if drafted:
            right = sum(values(samples, name, ours(), "accepted"))
            shares.append(f"{right / drafted:.0%} of {drafted:.0f} at {temperature:g}")
    found = ", ".join(shares) or told([], "")
    return Verdict(f"guesses that come true, {text}", found, "", "", None)


ROW = Row(12, "guesses without a draft model", (*FIGURES.values(), *ACCEPTANCE.values()), verdicts)
