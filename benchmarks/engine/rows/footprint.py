"""Row 13: seconds to load and repack, and memory, each in a process of its own."""

from __future__ import annotations

import statistics

from benchmarks.engine.plan import Figure, Row, Samples, Verdict, ours, values
from benchmarks.engine.verdicts import at_most, peer_told, told

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
    return [seconds, *_memory(samples, file_mib[0])] if file_mib else [seconds]


def _memory(samples: Samples, file_mib: float) -> list[Verdict]:
    """Judge the whole process, and tell what of it is not the interpreter and its packages."""
    found = {
        key: values(samples, FIGURE.name, ours(), key)
        for key in ("before_mib", "now_mib", "kv_mib")
    }
    most = round(MOST_OF_FILE * file_mib + statistics.median(found["kv_mib"]))
    pairs = zip(found["before_mib"], found["now_mib"], strict=True)
    added = [now - before for before, now in pairs]
    whole = at_most(
        samples,
        MEMORY,
        most,
        key="now_mib",
        beside=peer_told(samples, MEMORY, "now_mib")[1],
        label="resident memory after 64 tokens behind 128, keys and values allowed for",
    )
    imported = f"interpreter and imports: {told(found['before_mib'], 'MiB')}"
    own = Verdict("of it, what loading and decoding added", told(added, "MiB"), imported, "", None)
    return [whole, own]


ROW = Row(13, "load and memory", (FIGURE,), verdicts)
