"""Plain counts of what happened, read by the metrics exporter now and then."""

from __future__ import annotations

from collections import Counter


class Tally:
    """What the room counted since it started.

    `lookups` by where an encoding was found: `local`, `shared` or `miss`.
    `failures` by (hop, reason): `redis` was `away`; the `encoder` was `late`,
    `busy` with what others asked, its queue `full`, or it `failed`.
    """

    def __init__(self) -> None:
        self.lookups: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()

    def looked_up(self, found: str) -> None:
        """Count one look-up of an encoding."""
        self.lookups[found] += 1

    def failed(self, hop: str, reason: str) -> None:
        """Count one failure that did not fail a request."""
        self.failures[hop, reason] += 1
