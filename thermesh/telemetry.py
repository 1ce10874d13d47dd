"""Traces, metrics and logs: OpenTelemetry providers set up once a process.

Spans go to an OTLP collector where `OTEL_EXPORTER_OTLP_ENDPOINT` names one, and
to a JSON-lines file where `THERMESH_TRACE_FILE` does. Metrics are always kept
and offered as Prometheus text. Without `setup`, as in tests and clients, the
API's no-op providers stay in place. No span or event is made per token: one
costs about as much as drawing it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import prometheus_client
from opentelemetry import metrics, propagate, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from thermesh import __version__
from thermesh.settings import between, one_of, setting

_SCOPE = "thermesh"


@dataclass(frozen=True)
class TelemetryConfig:
    """Where telemetry goes; the same variables in every process."""

    otlp_endpoint: str = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "", doc="OTLP/HTTP collector; empty: none"
    )
    trace_file: str = setting(
        "THERMESH_TRACE_FILE", "", doc="append finished spans to this file as JSON lines"
    )
    metrics_port: int = setting(
        "THERMESH_METRICS_PORT", 0, between(0, 65535), "Prometheus text over HTTP; 0: off"
    )
    metrics_host: str = setting("THERMESH_HOST", "127.0.0.1", doc="address to listen on")
    log_level: str = setting(
        "THERMESH_LOG_LEVEL",
        "INFO",
        one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "least severe log line that is written",
    )

    @property
    def has_listener(self) -> bool:
        """Whether anybody hears of spans. A caller's trace is carried on either way."""
        return bool(self.otlp_endpoint or self.trace_file)


class SpanFile(SpanExporter):
    """Appends each finished span as one JSON line; several processes may share the file."""

    def __init__(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write `spans`, one write a line, so that lines of processes do not mix."""
        for span in spans:
            line = json.dumps(json.loads(span.to_json(indent=None))) + "\n"
            os.write(self._descriptor, line.encode())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def setup(service: str, config: TelemetryConfig) -> None:
    """Install the providers and the log format of this process, once.

    `service` becomes `service.name`, e.g. `thermesh-inference`.
    """
    logging.basicConfig(
        level=config.log_level,
        format=f"%(asctime)s %(levelname)s {service} %(name)s: %(message)s",
    )
    resource = Resource.create({"service.name": service, "service.version": __version__})
    if config.has_listener:  # else a span costs its call a third of a millisecond for nobody
        trace.set_tracer_provider(_tracer_provider(resource, config))
    metrics.set_meter_provider(MeterProvider(_metric_readers(config), resource=resource))
    if config.metrics_port:
        prometheus_client.start_http_server(config.metrics_port, config.metrics_host)


def shutdown() -> None:
    """Send what is still buffered; call it last in a process."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        if isinstance(provider, TracerProvider | MeterProvider):
            provider.shutdown()


def prometheus_text() -> bytes:
    """Return all metrics of this process in Prometheus text format."""
    return prometheus_client.generate_latest()


@functools.cache  # to make one costs as much as its span
def tracer() -> trace.Tracer:
    """Return the tracer of the mesh."""
    return trace.get_tracer(_SCOPE, __version__)


def meter() -> metrics.Meter:
    """Return the meter of the mesh."""
    return metrics.get_meter(_SCOPE, __version__)


def current_traceparent() -> str:
    """Return the current span as W3C traceparent; empty without one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


@contextlib.contextmanager
def span_from(traceparent: str, name: str) -> Iterator[trace.Span]:
    """Open a span below a request's span that ended or lives elsewhere."""
    parent = propagate.extract({"traceparent": traceparent})
    with tracer().start_as_current_span(name, context=parent) as span:
        yield span


def _tracer_provider(resource: Resource, config: TelemetryConfig) -> TracerProvider:
    provider = TracerProvider(resource=resource)
    if config.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # pulls in an HTTP stack that most processes never need
            OTLPSpanExporter,
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if config.trace_file:
        provider.add_span_processor(SimpleSpanProcessor(SpanFile(pathlib.Path(config.trace_file))))
    return provider


def _metric_readers(config: TelemetryConfig) -> list[MetricReader]:
    readers: list[MetricReader] = [PrometheusMetricReader()]
    if config.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  # as above
            OTLPMetricExporter,
        )

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    return readers
