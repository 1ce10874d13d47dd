"""Row 3: several streams at once, the rate of all together."""

from __future__ import annotations

from benchmarks.engine.contender import STREAM_CONTEXT
from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import ahead_of_own, ahead_of_peers

STEPS = 32
PEERS_FACTOR = 2.5
OWN_FACTOR = 3.8
FIGURES = {
    streams: Figure(
        f"{streams} streams" if streams > 1 else "1 stream",
        "decode",
        {"context": STREAM_CONTEXT, "steps": STEPS, "streams": streams},
        has_peers=streams > 1,
    )
    for streams in (1, 8, 16, 32)
}


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge each number of streams by the best peer, and 16 by one of our own."""
    beside_peers = [
        ahead_of_peers(samples, figure, PEERS_FACTOR)
        for figure in FIGURES.values()
        if figure.has_peers
    ]
    own = ahead_of_own(samples, FIGURES[16].name, FIGURES[1].name, OWN_FACTOR)
    return [*beside_peers, own]


ROW = Row(3, "streams together", tuple(FIGURES.values()), verdicts)
