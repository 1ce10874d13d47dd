"""What one request took and gave: times, means, reports, and the final account."""

from __future__ import annotations

from collections.abc import Sequence

from services.inference.events import Ended, FinishReason, Outcome, Telemetry, Usage
from services.inference.request import Request
from services.inference.sampling.sampler import Drawn
from services.inference.sequences.parameters import Parameters
from services.inference.sequences.repetition import NGRAM_WINDOW, repetition
from thermesh.errors import MeshError

MAX_TRACED_TEMPERATURES = 8192


class Account:
    """Sums over the tokens of one request. Times are seconds of the engine's clock.

    `drafted_count` are tokens that were computed on a guess, `accepted_count`
    those of them that were then drawn.
    """

    def __init__(self, request: Request, parameters: Parameters, now: float) -> None:
        self.temperature = 0.0
        self.drafted_count = 0
        self.accepted_count = 0
        self._request = request
        self._parameters = parameters
        self._arrived_at = now
        self._started_at: float | None = None
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._count = 0
        self._temperatures: list[float] = []
        self._temperature_sum = 0.0
        self._entropy_sum = 0.0
        self._log_probability_sum = 0.0
        self._prefill_entropy = 0.0
        self._reported_count = 0
        self._reported_entropy_sum = 0.0

    def begin(self, now: float) -> None:
        """Note the first prefill step."""
        if self._started_at is None:
            self._started_at = now

    def note(self, drawn: Drawn, now: float, *, is_guessed: bool = False) -> None:
        """Note a drawn token; `is_guessed` where a draft had foreseen it."""
        if self._first_token_at is None:
            self._first_token_at = now
            self._prefill_entropy = drawn.entropy
        self._last_token_at = now
        self._count += 1
        self.accepted_count += is_guessed
        self.temperature = drawn.temperature
        self._temperature_sum += drawn.temperature
        self._entropy_sum += drawn.entropy
        self._log_probability_sum += drawn.model_log_probability
        if len(self._temperatures) < MAX_TRACED_TEMPERATURES:
            self._temperatures.append(drawn.temperature)

    def is_report_due(self, output_count: int, every_tokens: int) -> bool:
        """Tell whether `every_tokens` were decoded since the last report."""
        return output_count - self._reported_count >= every_tokens

    def telemetry(self, output: Sequence[int]) -> Telemetry:
        """Return a report on the tokens decoded since the last one, at least one."""
        count = len(output)
        fresh = count - self._reported_count
        mean_entropy = (self._entropy_sum - self._reported_entropy_sum) / fresh
        self._reported_count, self._reported_entropy_sum = count, self._entropy_sum
        context, plan = self._request.context, self._parameters.plan
        return Telemetry(
            request_id=context.request_id,
            decision_id=plan.decision_id if plan else "",
            scenario=plan.scenario if plan else "",
            token_count=count,
            token_budget=self._parameters.token_budget,
            temperature=self.temperature,
            mean_entropy=mean_entropy,
            prefill_entropy=self._prefill_entropy,
            repetition=repetition(output[-NGRAM_WINDOW:]),
            revision=self._parameters.revision,
            deadline_unix_ms=context.deadline_unix_ms,
            is_pinned=self._parameters.is_program_pinned,
            traceparent=context.traceparent,
            drafted_tokens=self.drafted_count,
            accepted_tokens=self.accepted_count,
        )

    def ended(self, reason: FinishReason, usage: Usage, error: MeshError | None) -> Ended:
        """Return the last event of the stream."""
        count = max(1, self._count)
        means = (self._temperature_sum / count, self._entropy_sum / count)
        return Ended(reason, usage, *means, error)

    def outcome(self, reason: FinishReason, output: Sequence[int], usage: Usage) -> Outcome:
        """Return the account of the request, now that it is over."""
        count = max(1, self._count)
        return Outcome(
            context=self._request.context,
            plan=self._parameters.plan,
            finish_reason=reason,
            usage=usage,
            mean_temperature=self._temperature_sum / count,
            mean_entropy=self._entropy_sum / count,
            prefill_entropy=self._prefill_entropy,
            mean_log_probability=self._log_probability_sum / count,
            repetition=repetition(output),
            temperatures=tuple(self._temperatures),
            dropped_updates=self._parameters.dropped,
            drafted_tokens=self.drafted_count,
            accepted_tokens=self.accepted_count,
        )

    def usage(self, completion_tokens: int, cached_prompt_tokens: int) -> Usage:
        """Return tokens and times so far."""
        return Usage(
            prompt_tokens=len(self._request.prompt_ids),
            cached_prompt_tokens=cached_prompt_tokens,
            completion_tokens=completion_tokens,
            queue_time_us=_microseconds(self._arrived_at, self._started_at),
            prefill_time_us=_microseconds(self._started_at, self._first_token_at),
            decode_time_us=_microseconds(self._first_token_at, self._last_token_at),
        )


def _microseconds(start: float | None, end: float | None) -> int:
    return 0 if start is None or end is None else round((end - start) * 1e6)
