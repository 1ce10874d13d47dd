"""Spans are made where somebody hears of them."""

import pytest

from thermesh.telemetry import TelemetryConfig


@pytest.mark.parametrize(
    ("config", "heard"),
    [
        (TelemetryConfig(), False),
        (TelemetryConfig(otlp_endpoint="http://collector:4318"), True),
        (TelemetryConfig(trace_file="spans.jsonl"), True),
    ],
)
def test_a_collector_or_a_file_listens(config, heard):
    """Without either a span would be made for nobody."""
    assert config.has_listener is heard
