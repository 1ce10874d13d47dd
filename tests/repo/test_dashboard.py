"""The Grafana dashboard asks for what the rooms export."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import prometheus_client
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import NoOpTracer

from services.controller.metrics import Metrics
from services.gateway.observability import heatmap
from services.gateway.observability.instruments import Instruments
from services.inference.events import Load
from services.inference.measure import Measurements
from thermesh import semconv, telemetry

WORD = re.compile(r"\b(?:thermesh|gen_ai)_[a-z_]+")


@pytest.fixture
def exported(monkeypatch):
    """What Prometheus reads of a gateway, a controller and an engine that did one thing each."""
    provider = MeterProvider([PrometheusMetricReader()])
    meter = provider.get_meter("test")
    monkeypatch.setattr(telemetry, "meter", lambda: meter)
    running = [*do_something(meter)]  # held: gauges are read of them
    yield prometheus_client.generate_latest().decode()
    provider.shutdown()
    del running


def do_something(meter):
    """Record every kind of thing that a dashboard may show."""
    gateway = Instruments(meter)
    attributes = {semconv.GEN_AI_OPERATION: "chat"}
    gateway.time_to_first_token.record(0.1, attributes)
    gateway.time_per_output_token.record(0.1, attributes)
    gateway.requests.add(1, {"route": "/v1/completions", semconv.REASON: "stop"})
    gateway.applied(0.7, "code")
    gateway.hop_failed("feature", "late")
    yield gateway
    controller = Metrics(lambda: 7, lambda: 0)
    source, envelope = SimpleNamespace(value="policy"), SimpleNamespace(scenario="code")
    controller.decided(SimpleNamespace(source=source, envelope=envelope), 1e-5)
    controller.took_feedback(duplicate=False)
    yield controller
    yield Measurements(SimpleNamespace(load=Load), "model", meter, NoOpTracer())


def test_every_metric_and_label_of_the_dashboard_exists(root, exported):
    """Whatever name an expression or a variable uses is in the text that Prometheus reads."""
    dashboard = (root / "deploy/grafana/thermesh.json").read_text()
    known = set(WORD.findall(exported))
    asked = set(WORD.findall(dashboard))
    assert asked - known == set()
    assert {"thermesh_temperature_applied_bucket", "thermesh_task"} <= asked


def test_the_dashboard_can_be_imported(root):
    """It is JSON, names its panels once each, and draws the heat map for each task."""
    dashboard = json.loads((root / "deploy/grafana/thermesh.json").read_text())
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    (heat,) = [panel for panel in dashboard["panels"] if panel["type"] == "heatmap"]
    assert heat["repeat"] == "task"
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_the_heat_maps_of_page_and_metrics_have_the_same_bins():
    """Bounds of the histogram are where bins of the page end."""
    ends = [(index + 1) * heatmap.BIN_WIDTH for index in range(heatmap.BINS)]
    assert pytest.approx(ends) == semconv.TEMPERATURE_BUCKETS
