"""Row 13: seconds to load and repack, and memory, each in a process of its own."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import at_most, peer_told

FIGURE = Figure("load", "footprint", unit="s", is_fresh=True)
MEMORY = Figure("load", "footprint", unit="MiB", is_fresh=True)
MOST_SECONDS = 1.5
MOST_OF_FILE = 1.3


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge time and memory; the memory bar counts what loading added."""
    seconds = at_most(
        samples,
        FIGURE,
        MOST_SECONDS,
        key="load_seconds",
        beside=peer_told(samples, FIGURE, "load_seconds")[1],
        label="load and repack",
    )
    file_mib = values(samples, FIGURE.name, ours(), "file_mib")
    if not file_mib:
        return [seconds]
    whole = at_most(
        samples,
        MEMORY,
        round(MOST_OF_FILE * file_mib[0]),
        key="now_mib",
        beside=peer_told(samples, MEMORY, "now_mib")[1],
        label="resident memory after 64 tokens behind 128",
    )
    return [seconds, whole]


ROW = Row(13, "load and memory", (FIGURE,), verdicts)
