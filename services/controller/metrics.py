"""What the controller tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Observation

from services.controller.decisions.decision import Decision
from thermesh import semconv, telemetry


class Metrics:
    """Counters and gauges; create one after `telemetry.setup`.

    `live_version` and `unrecorded` are read when metrics are collected.
    """

    def __init__(self, live_version: Callable[[], int], unrecorded: Callable[[], int]) -> None:
        meter = telemetry.meter()
        self._decisions = meter.create_counter(semconv.DECISIONS, "1")
        self._duration = meter.create_histogram(semconv.DECISION_DURATION, "s")
        self._feedback = meter.create_counter(semconv.FEEDBACK, "1")
        self._updates = meter.create_counter(semconv.UPDATES, "1")
        meter.create_observable_gauge(semconv.POLICY_LIVE_VERSION, [_read(live_version)])
        meter.create_observable_counter(semconv.DECISIONS_UNRECORDED, [_read(unrecorded)])

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count a decision and how long the policy took."""
        attributes = {
            semconv.PLAN_SOURCE: decision.source.value,
            semconv.SCENARIO: decision.envelope.scenario,
        }
        self._decisions.add(1, attributes)
        self._duration.record(seconds)

    def took_feedback(self, duplicate: bool) -> None:
        """Count one piece of feedback."""
        self._feedback.add(1, {semconv.REASON: "duplicate" if duplicate else "stored"})

    def refused_feedback(self) -> None:
        """Count one piece of feedback that was one too many."""
        self._feedback.add(1, {semconv.REASON: "refused"})

    def steered(self, reason: str) -> None:
        """Count a revision of a running request."""
        self._updates.add(1, {semconv.REASON: reason})


def _read(value: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(value())]
