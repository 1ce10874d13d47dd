"""What a request is expected to cost, as a message."""

from __future__ import annotations

from services.controller.decisions.decision import Decision
from services.controller.decisions.experience import latency_cost
from services.controller.forecasting.forecast import Forecast
from thermesh.v1 import common_pb2


def forecast(
    decision: Decision, value: Forecast, deadline_unix_ms: int, now_unix_ms: int
) -> common_pb2.Forecast:
    """Write the forecast of a decision; `deadline_unix_ms` 0 is none."""
    ends_unix_ms = now_unix_ms + round(1000 * value.total_seconds)
    return common_pb2.Forecast(
        prefill_seconds=value.prefill_seconds,
        output_tokens=value.output_tokens,
        output_tokens_high=value.output_tokens_high,
        total_seconds=value.total_seconds,
        latency_cost=latency_cost(decision.envelope.latency_weight, value.total_seconds),
        misses_deadline=0 < deadline_unix_ms < ends_unix_ms,
        bounds_budget=decision.is_budget_bounded,
    )
