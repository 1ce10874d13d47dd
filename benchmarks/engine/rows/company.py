"""Row 14, beyond the bars: requests of several kinds in one step, and answers to one prompt.

Whether grouping sequences by complexity pays is claimed now and then; here the
steps say it.
"""

from __future__ import annotations

import statistics

from benchmarks.engine.plan import ROUNDS, Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import told

SHORT, LONG, LONGER = 80, 1504, 4096
GROUPED = {
    kind: Figure(
        f"8 sequences of {SHORT} tokens and 8 of {long:,}{', light' if is_light else ''}",
        "run",
        {"function": "company:mixed", "short": SHORT, "long": long, "is_light": is_light},
        unit="ms",
        has_peers=False,
        rounds=11,
    )
    for kind, (long, is_light) in {
        "standard": (LONG, False),
        "longer": (LONGER, False),
        "light": (LONGER, True),
    }.items()
}
PROMPT = 248
FORKS = {
    answers: Figure(
        f"{answers} answers to a prompt of {PROMPT}" if answers > 1 else f"a prompt of {PROMPT}",
        "run",
        {"function": "company:forks", "prompt": PROMPT, "answers": answers},
        unit="ms",
        has_peers=False,
    )
    for answers in (1, 4)
}


def verdicts(samples: Samples) -> list[Verdict]:
    """Tell whether one step of all takes less than a step of each kind."""
    return [*(_grouped(samples, figure) for figure in GROUPED.values()), _forks(samples)]


def _grouped(samples: Samples, figure: Figure) -> Verdict:
    together = values(samples, figure.name, ours(), "together")
    apart = values(samples, figure.name, ours(), "apart")
    beside, is_met = f"a step of each kind {told(apart, 'ms')}", None
    if len(together) >= ROUNDS:
        is_met = statistics.median(together) <= statistics.median(apart)
    return Verdict(figure.name, told(together, "ms"), beside, "less than apart", is_met)


def _forks(samples: Samples) -> Verdict:
    several, one = (values(samples, FORKS[count].name, ours()) for count in (4, 1))
    return Verdict(FORKS[4].name, told(several, "ms"), f"one answer {told(one, 'ms')}", "", None)


ROW = Row(14, "company", (*GROUPED.values(), *FORKS.values()), verdicts)
