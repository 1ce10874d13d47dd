"""The room's metrics: counts are read from the tally when someone asks, not sent at each event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, Observation

from services.feature.tally import Tally
from thermesh import semconv
from thermesh.telemetry import meter

_BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.25, 1.0)


class Metrics:
    """Registers the instruments of `tally` with this process's meter."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._duration = meter().create_histogram(
            semconv.FEATURE_DURATION,
            unit="s",
            description="time to read one request",
            explicit_bucket_boundaries_advisory=_BUCKETS_SECONDS,
        )
        meter().create_observable_counter(
            semconv.FEATURE_CACHE,
            [self._lookups],
            description="look-ups of encodings by where they were found",
        )
        meter().create_observable_counter(
            semconv.HOP_FAILURES,
            [self._failures],
            description="failures of a hop that did not fail a request",
        )

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Record how long the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._duration.record(time.perf_counter() - started)

    def _lookups(self, _options: CallbackOptions) -> Iterable[Observation]:
        for found, count in list(self._tally.lookups.items()):
            yield Observation(count, {semconv.CACHE_RESULT: found})

    def _failures(self, _options: CallbackOptions) -> Iterable[Observation]:
        for (hop, reason), count in list(self._tally.failures.items()):
            yield Observation(count, {semconv.HOP: hop, semconv.REASON: reason})
