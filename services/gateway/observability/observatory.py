"""What an operator sees of this gateway: open streams, an hour's temperatures and feedback.

Nothing here is asked of anybody: it is counted as requests pass, in memory of a
fixed size, and lost with the process. Prometheus keeps what must last.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from services.gateway.feedback import Feedback
from services.gateway.observability.heatmap import MINUTES, HeatMap
from thermesh.clock import Clock


@dataclass(frozen=True, slots=True)
class StreamState:
    """One request under way. `temperature` None: no token yet."""

    request_id: str
    route: str
    tenant: str
    task: str
    source: str
    policy_version: int
    token_count: int
    temperature: float | None
    seconds: float


class Stream(Protocol):
    """A request that can tell how far it is."""

    def state(self) -> StreamState:
        """Return how far it is."""
        ...


@dataclass(frozen=True, slots=True)
class FeedbackMinute:
    """Feedback taken in one minute since the Unix epoch; `signals` by how it came about."""

    minute: int
    praised: int
    blamed: int
    signals: dict[str, int]


class Observatory:
    """Watches the requests of one gateway; not thread-safe, it lives on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.heat = HeatMap()
        self._streams: dict[int, Stream] = {}
        self._numbers = itertools.count()
        self._feedback: OrderedDict[int, Counter[str]] = OrderedDict()

    @contextlib.contextmanager
    def watching(self, stream: Stream) -> Iterator[None]:
        """Show `stream` for the length of the block, and count its temperature at the end."""
        number = next(self._numbers)
        self._streams[number] = stream
        try:
            yield
        finally:
            del self._streams[number]
            state = stream.state()
            if state.temperature is not None:
                self.heat.add(state.task, state.temperature, self.clock.unix_ms())

    def streams(self, most: int) -> list[StreamState]:
        """Return the `most` oldest requests under way."""
        return [stream.state() for stream in itertools.islice(self._streams.values(), most)]

    def saw_feedback(self, feedback: Feedback) -> None:
        """Count a piece of feedback that was taken."""
        minute = self.clock.unix_ms() // 60_000
        counts = self._feedback.setdefault(minute, Counter())
        counts[feedback.signal.value] += 1
        counts["praised"] += feedback.score > 0
        counts["blamed"] += feedback.score < 0
        while len(self._feedback) > MINUTES:
            self._feedback.popitem(last=False)

    def feedback(self) -> list[FeedbackMinute]:
        """Return the minutes of the last hour in which feedback came."""
        oldest = self.clock.unix_ms() // 60_000 - MINUTES
        return [_minute(at, counts) for at, counts in self._feedback.items() if at > oldest]


def _minute(at: int, counts: Counter[str]) -> FeedbackMinute:
    signals = {name: n for name, n in counts.items() if name not in {"praised", "blamed"}}
    return FeedbackMinute(at, counts["praised"], counts["blamed"], signals)
