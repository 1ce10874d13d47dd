"""What one request through a bridge took so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.inference.events import FinishReason, Outcome, Usage
from services.inference.request import Context, Plan


@dataclass
class Account:
    """What happened so far; times are of the monotonic clock, in seconds."""

    opened: float
    asked: float = 0.0
    first: float = 0.0
    last: float = 0.0
    decoded: int = 0
    log_probability: float = 0.0
    prompt_tokens: int = 0
    counted: int | None = None
    temperatures: list[float] = field(default_factory=list)

    def note(self, now: float) -> int:
        """Count one token; return the microseconds since the one before."""
        before = self.last or self.asked
        self.first = self.first or now
        self.last = now
        self.decoded += 1
        return _microseconds(now - before)

    def usage(self) -> Usage:
        """Return tokens and times; all time until the first token is prefill."""
        started = self.asked or self.last or self.opened
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.decoded if self.counted is None else self.counted,
            queue_time_us=_microseconds(started - self.opened),
            prefill_time_us=_microseconds((self.first or started) - started),
            decode_time_us=_microseconds(self.last - self.first),
        )

    def outcome(self, context: Context, plan: Plan | None, reason: FinishReason) -> Outcome:
        """Return the account of the request; what the engine behind does not tell is 0."""
        count = max(1, self.decoded)
        return Outcome(
            context=context,
            plan=plan,
            finish_reason=reason,
            usage=self.usage(),
            mean_temperature=sum(self.temperatures) / count,
            mean_entropy=0.0,
            prefill_entropy=0.0,
            mean_log_probability=self.log_probability / count,
            repetition=0.0,
            temperatures=tuple(self.temperatures),
        )


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
