"""Row 4: one stream while another process burns a core, at untouched settings.

Peers also take part on one thread, where some lose less. A sample is half a second of
ours: an engine that finds out how many threads still pay has time to.
"""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import ahead_of_own, ahead_of_peers

STREAM = {"context": 64, "steps": 128}
IDLE = Figure("decode of 128 behind 64", "decode", STREAM, has_peers=False)
FIGURE = Figure(f"{IDLE.name} beside a busy neighbour", "decode", STREAM, has_neighbour=True)


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge by our own idle speed, measured in the same run, and by the peers'."""
    return [
        ahead_of_own(samples, FIGURE.name, IDLE.name, 0.6),
        ahead_of_peers(samples, FIGURE, 1.5),
    ]


ROW = Row(4, "a busy neighbour", (IDLE, FIGURE), verdicts)
