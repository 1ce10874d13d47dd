"""Metrics and spans of streams."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.inference.events import Applied, FinishReason, Load, Outcome, StepResult, Usage
from services.inference.measure import Measurements
from services.inference.request import Context, Plan, Source
from services.inference.sampling.settings import DEFAULT
from thermesh import semconv

TRACE = "0af7651916cd43dd8448eb211c80319c"
CONTEXT = Context("req-1", session_id="s", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
USAGE = Usage(5, 3, queue_time_us=100_000, prefill_time_us=200_000, decode_time_us=400_000)
PLAN = Plan(DEFAULT, 1, decision_id="dec-1", policy_version=4)
OUTCOME = Outcome(CONTEXT, PLAN, FinishReason.LENGTH, USAGE, 0.5, 1, 1, -1, 0, (0.5,) * 3, 2)


class Observed:
    """Measurements with real providers that keep what they get."""

    def __init__(self) -> None:
        self.load = Load(
            running=3,
            waiting=1,
            kv_pages_used=7,
            kv_pages_total=64,
            open_streams=4,
            kv_pages_cached=9,
            kv_pages_evicted=5,
            prefix_tokens_queried=80,
            prefix_tokens_hit=48,
        )
        self._spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader])
        engine = SimpleNamespace(load=lambda: self.load)
        self.measurements = Measurements(
            engine, "fake", self._meters.get_meter("t"), tracers.get_tracer("t")
        )

    def spans(self) -> dict:
        """Finished spans by name."""
        return {span.name: span for span in self._spans.get_finished_spans()}

    def points(self) -> dict:
        """Data points by metric name."""
        metrics = self._reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: list(metric.data.data_points) for metric in metrics}


@pytest.fixture
def observed() -> Observed:
    return Observed()


def test_a_stream_has_two_spans_in_its_requests_trace(observed: Observed) -> None:
    """Prefill and decode lie end to end with their durations, and name the decision."""
    observed.measurements.observe(StepResult(outcomes=[(None, OUTCOME)]))
    prefill, decode = (observed.spans()[f"inference.{name}"] for name in ("prefill", "decode"))
    assert prefill.end_time == decode.start_time
    assert (prefill.end_time - prefill.start_time) == 200_000_000
    assert (decode.end_time - decode.start_time) == 400_000_000
    assert format(decode.context.trace_id, "032x") == TRACE
    assert decode.attributes[semconv.DECISION_ID] == "dec-1"
    assert decode.attributes[semconv.GEN_AI_OUTPUT_TOKENS] == 3


def test_times_are_recorded_once_a_stream(observed: Observed) -> None:
    """Time to first token includes the queue; time per token leaves the first one out."""
    observed.measurements.observe(StepResult(outcomes=[(None, OUTCOME)]))
    points = observed.points()
    [first] = points[semconv.TIME_TO_FIRST_TOKEN]
    [each] = points[semconv.TIME_PER_OUTPUT_TOKEN]
    assert (first.count, first.sum) == (1, pytest.approx(0.3))
    assert (each.count, each.sum) == (1, pytest.approx(0.2))


def test_counters_and_gauges_are_read_when_collected(observed: Observed) -> None:
    """Requests by reason, updates by sender, tokens, and the engine's load."""
    applied = Applied(1, 0, Source.CLIENT, 1, DEFAULT)
    result = StepResult(events=[(None, applied)], outcomes=[(None, OUTCOME)])
    observed.measurements.observe(result)
    points = observed.points()
    assert points[semconv.TOKENS_GENERATED][0].value == 3
    assert points[semconv.TOKENS_PROMPT][0].value == 5
    reasons = {
        name: {point.attributes[semconv.REASON]: point.value for point in points[name]}
        for name in (semconv.REQUESTS, semconv.UPDATES)
    }
    assert reasons == {
        semconv.REQUESTS: {"length": 1},
        semconv.UPDATES: {"client": 1, "dropped": 2},
    }
    assert points[semconv.SEQUENCES_RUNNING][0].value == 3
    assert points[semconv.KV_PAGES_USED][0].value == 7
    assert points[semconv.STREAMS_OPEN][0].value == 4


def test_the_prefix_cache_is_told_apart_from_used_pages(observed: Observed) -> None:
    """Kept pages have a gauge of their own; looked up, found and evicted are counters."""
    points = observed.points()
    names = ("QUERIES", "HITS", "EVICTIONS")
    counted = [points[getattr(semconv, f"PREFIX_CACHE_{name}")][0].value for name in names]
    assert counted == [80, 48, 5]
    assert points[semconv.KV_PAGES_CACHED][0].value == 9
