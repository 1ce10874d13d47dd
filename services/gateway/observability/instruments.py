"""The gateway's counters and histograms, made once from a meter that is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from thermesh import semconv


class Instruments:
    """What the gateway measures; recorded once per request, never per token."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.requests = meter.create_counter(
            semconv.REQUESTS, description="requests by route and how they ended"
        )
        self.duration = meter.create_histogram(
            semconv.REQUEST_DURATION, unit="s", description="from request to end"
        )
        self.time_to_first_token = meter.create_histogram(
            semconv.TIME_TO_FIRST_TOKEN,
            unit="s",
            description="from request to the first token",
            explicit_bucket_boundaries_advisory=semconv.TIME_TO_FIRST_TOKEN_BUCKETS,
        )
        self.time_per_output_token = meter.create_histogram(
            semconv.TIME_PER_OUTPUT_TOKEN,
            unit="s",
            description="mean time of the tokens after the first",
            explicit_bucket_boundaries_advisory=semconv.TIME_PER_OUTPUT_TOKEN_BUCKETS,
        )
        self._temperature = meter.create_histogram(
            semconv.TEMPERATURE_APPLIED,
            description="mean temperature of an answer's tokens, by task",
            explicit_bucket_boundaries_advisory=semconv.TEMPERATURE_BUCKETS,
        )
        self._hop_failures = meter.create_counter(
            semconv.HOP_FAILURES, description="calls to a neighbour that did not help in time"
        )
        self._updates = meter.create_counter(
            semconv.UPDATES, description="parameter updates acknowledged, by result"
        )

        self._voice_stages = meter.create_histogram(
            semconv.VOICE_STAGE_DURATION,
            unit="s",
            description="stages between the end of a spoken turn and its answer",
            explicit_bucket_boundaries_advisory=semconv.TIME_TO_FIRST_TOKEN_BUCKETS,
        )

    def voice_stage(self, stage: str, seconds: float) -> None:
        """Record how long one stage of a realtime answer took."""
        self._voice_stages.record(seconds, {semconv.VOICE_STAGE: stage})

    def hop_failed(self, hop: str, reason: str) -> None:
        """Count a neighbour that did not answer, answered late or with an error."""
        self._hop_failures.add(1, {semconv.HOP: hop, semconv.REASON: reason})

    def applied(self, temperature: float, task: str) -> None:
        """Record the mean temperature of an answer's tokens."""
        self._temperature.record(temperature, {semconv.TASK: task or "unknown"})

    def updated(self, result: str) -> None:
        """Count an update that was `applied` or `rejected`."""
        self._updates.add(1, {semconv.REASON: result})

    def watch_open_streams(self, count: Callable[[], int]) -> None:
        """Offer the number of requests inside as a gauge, read when metrics are collected."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(count())]

        self._meter.create_observable_gauge(semconv.STREAMS_OPEN, callbacks=[observe])
