"""What is remembered of one request: its metrics, its span's attributes and one log line.

The journal watches the events pass and writes everything once, at the end, so
that a token costs no telemetry.
"""

from __future__ import annotations

import logging

from opentelemetry import trace

from services.gateway.asking import Ask, Chat
from services.gateway.decoding import FinishReason, Plan
from services.gateway.events import Accepted, Applied, Ended, Event, PlanDecided, Rejected, Tokens
from services.gateway.observability.instruments import Instruments
from services.gateway.observability.observatory import StreamState
from thermesh import semconv
from thermesh.clock import Clock
from thermesh.errors import MeshError, ResourceExhausted

log = logging.getLogger("thermesh.gateway")

REJECTED = "rejected"
FAILED = "failed"


class Journal:
    """Watches one request from its arrival to its end, however it ends."""

    def __init__(self, ask: Ask, instruments: Instruments, clock: Clock) -> None:
        self._ask = ask
        self._instruments = instruments
        self._clock = clock
        self._span = trace.get_current_span()
        self._began = clock.monotonic()
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._token_count = 0
        self._temperature_sum = 0.0
        self._prompt_tokens = 0
        self._model = ask.model
        self._plan: Plan | None = None
        self._end: Ended | None = None
        self._failure: str | None = None
        self._error_reason = ""

    def observe(self, event: Event) -> None:
        """Take note of an event as it passes."""
        if isinstance(event, Tokens):
            self._saw_tokens(event)
        elif isinstance(event, PlanDecided):
            self._plan = event.plan
        elif isinstance(event, Accepted):
            self._model = event.model
            self._prompt_tokens = event.prompt_tokens
        elif isinstance(event, Ended):
            self._end = event
        elif isinstance(event, Applied):
            self._instruments.updated("applied")
        elif isinstance(event, Rejected):
            self._instruments.updated("rejected")

    def fail(self, error: MeshError) -> None:
        """Take note of the error that ends the request.

        Not of the exception itself: its traceback knows the turn, and the turn this journal,
        a circle that every refusal of a crowded hour would leave to the garbage collector.
        """
        self._failure = REJECTED if isinstance(error, ResourceExhausted) else FAILED
        self._error_reason = error.reason

    def close(self) -> None:
        """Write metrics, attributes and the log line; call it once, last."""
        now = self._clock.monotonic()
        reason = self.reason
        attributes = {
            semconv.GEN_AI_OPERATION: self._operation,
            semconv.GEN_AI_PROVIDER: "thermesh",
            semconv.GEN_AI_REQUEST_MODEL: self._model,
        }
        self._record_times(now, attributes)
        self._instruments.requests.add(1, {"route": self._ask.route, semconv.REASON: reason})
        self._describe_span(attributes, reason)
        self._log(now, reason)

    @property
    def has_ended(self) -> bool:
        """Whether inference said its end."""
        return self._end is not None

    @property
    def used_tokens(self) -> int:
        """Tokens of prompt and answer, as inference counted them, or as seen so far."""
        usage = self._end.usage if self._end else None
        if usage and usage.prompt_tokens:
            return usage.prompt_tokens + usage.completion_tokens
        return self._prompt_tokens + self._token_count

    @property
    def reason(self) -> str:
        """How the request ended: a finish reason, `rejected`, `failed`, or `cancelled`."""
        if self._failure is not None:
            return self._failure
        return self._end.finish_reason.value if self._end else FinishReason.CANCELLED.value

    @property
    def _operation(self) -> str:
        return "chat" if isinstance(self._ask.input, Chat) else "text_completion"

    def state(self) -> StreamState:
        """Return how far the request is."""
        plan = self._plan
        return StreamState(
            request_id=self._ask.context.request_id,
            route=self._ask.route,
            tenant=self._ask.context.tenant,
            task=plan.task if plan else "",
            source=plan.source.value if plan else "",
            policy_version=plan.policy_version if plan else 0,
            token_count=self._token_count,
            temperature=self._mean_temperature,
            seconds=self._clock.monotonic() - self._began,
        )

    @property
    def _mean_temperature(self) -> float | None:
        return self._temperature_sum / self._token_count if self._token_count else None

    def _saw_tokens(self, event: Tokens) -> None:
        self._last_token_at = self._clock.monotonic()
        if self._first_token_at is None:
            self._first_token_at = self._last_token_at
        self._token_count += len(event.tokens)
        self._temperature_sum += sum(token.temperature for token in event.tokens)

    def _record_times(self, now: float, attributes: dict[str, str]) -> None:
        instruments = self._instruments
        instruments.duration.record(now - self._began, attributes)
        if self._first_token_at is None or self._last_token_at is None:
            return
        instruments.time_to_first_token.record(self._first_token_at - self._began, attributes)
        task = self._plan.task if self._plan else ""
        instruments.applied(self._temperature_sum / self._token_count, task)
        if self._token_count > 1:
            seconds = self._last_token_at - self._first_token_at
            per_token = seconds / (self._token_count - 1)
            instruments.time_per_output_token.record(per_token, attributes)

    def _describe_span(self, attributes: dict[str, str], reason: str) -> None:
        span, context = self._span, self._ask.context
        span.set_attributes(attributes)
        span.set_attribute(semconv.REQUEST_ID, context.request_id)
        span.set_attribute(semconv.TENANT, context.tenant)
        span.set_attribute(semconv.GEN_AI_FINISH_REASONS, [reason])
        span.set_attribute(semconv.GEN_AI_OUTPUT_TOKENS, self._token_count)
        if context.session_id:
            span.set_attribute(semconv.SESSION_ID, context.session_id)
            span.set_attribute(semconv.GEN_AI_CONVERSATION, context.session_id)
        if self._end:
            span.set_attribute(semconv.GEN_AI_INPUT_TOKENS, self._end.usage.prompt_tokens)
        if self._plan:
            span.set_attributes(plan_attributes(self._plan))

    def _log(self, now: float, reason: str) -> None:
        plan = self._plan
        first = self._first_token_at
        log.info(
            "%s %s %s: %s, %d tokens in %.0f ms, first after %s ms,"
            " decision %s, policy version %d, source %s, temperature %s",
            self._ask.context.request_id,
            self._ask.route,
            self._model or "default model",
            self._error_reason or reason,
            self._token_count,
            (now - self._began) * 1000,
            "-" if first is None else f"{(first - self._began) * 1000:.0f}",
            plan.decision_id if plan and plan.decision_id else "-",
            plan.policy_version if plan else 0,
            plan.source.value if plan else "-",
            f"{plan.temperature:.3f}" if plan else "-",
        )


def plan_attributes(plan: Plan) -> dict[str, str | int | float]:
    """Return the span attributes that tell how a request was decoded."""
    return {
        semconv.DECISION_ID: plan.decision_id,
        semconv.POLICY_VERSION: plan.policy_version,
        semconv.PLAN_SOURCE: plan.source.value,
        semconv.TEMPERATURE: plan.temperature,
        semconv.GEN_AI_REQUEST_TEMPERATURE: plan.temperature,
        semconv.TASK: plan.task,
        semconv.SCENARIO: plan.scenario,
    }
