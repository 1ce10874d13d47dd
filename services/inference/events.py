"""What leaves the engine: events of a stream, telemetry, and the end's account.

Times are in microseconds where the name says so; entropies and
log-probabilities in nats.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Protocol

from services.inference.request import Context, Plan, Source
from services.inference.sampling.settings import Sampling
from thermesh.errors import MeshError


class FinishReason(enum.Enum):
    """Why a generation ended, named as in `common.proto`."""

    STOP = "stop"
    STOP_STRING = "stop_string"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"


@dataclass(frozen=True)
class Token:
    """One decoded token and what the sampler saw; see `common.proto` Token."""

    index: int
    token_id: int
    text: str
    temperature: float
    entropy: float
    log_probability: float
    model_log_probability: float
    revision: int
    step_time_us: int
    candidates: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Applied:
    """A change took effect from `token_index` on."""

    revision: int
    token_index: int
    source: Source
    update_id: int
    sampling: Sampling


@dataclass(frozen=True)
class Rejected:
    """A change that is not valid; nothing changed."""

    update_id: int
    field: str
    message: str


@dataclass(frozen=True)
class Usage:
    """Tokens and times of one request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_time_us: int = 0
    prefill_time_us: int = 0
    decode_time_us: int = 0
    cached_prompt_tokens: int = 0

    def keeping(self, tokens: int) -> Usage:
        """Return what counts where a cancellation kept so many tokens."""
        return replace(self, completion_tokens=min(tokens, self.completion_tokens))


@dataclass(frozen=True)
class Ended:
    """The generation is over; `error` is set where the call must fail.

    `discarded` tokens were decoded but not kept by a cancellation.
    """

    finish_reason: FinishReason
    usage: Usage
    mean_temperature: float = 0.0
    mean_entropy: float = 0.0
    error: MeshError | None = None
    discarded: int = 0

    def keeping(self, tokens: int) -> Ended:
        """Return how a generation ended whose client kept so many tokens."""
        usage = self.usage.keeping(tokens)
        discarded = self.usage.completion_tokens - usage.completion_tokens
        return replace(self, usage=usage, discarded=self.discarded + discarded)


Event = Token | Applied | Rejected | Ended
"""What a stream receives, in order; `Ended` is last."""


@dataclass(frozen=True)
class Telemetry:
    """How one running request goes; see `controller.proto` SequenceTelemetry."""

    request_id: str
    decision_id: str
    scenario: str
    token_count: int
    token_budget: int
    temperature: float
    mean_entropy: float
    prefill_entropy: float
    repetition: float
    revision: int
    deadline_unix_ms: int
    is_pinned: bool
    traceparent: str
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """The account of a request that is over, for metrics, spans and the learner."""

    context: Context
    plan: Plan | None
    finish_reason: FinishReason
    usage: Usage
    mean_temperature: float
    mean_entropy: float
    prefill_entropy: float
    mean_log_probability: float
    repetition: float
    temperatures: tuple[float, ...]
    dropped_updates: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    def keeping(self, tokens: int) -> Outcome:
        """Return the account of a request whose client kept so many tokens.

        Means are over what was decoded: they tell of the decoding, not of the bill.
        """
        usage = self.usage.keeping(tokens)
        return replace(self, usage=usage, temperatures=self.temperatures[:tokens])


@dataclass(frozen=True)
class Load:
    """How busy the engine is; pages that are only kept for later are not used
    ones. Evictions and prefix tokens are counted from the start on.
    """

    running: int = 0
    waiting: int = 0
    kv_pages_used: int = 0
    kv_pages_total: int = 0
    open_streams: int = 0
    step_time_us: int = 0
    kv_pages_cached: int = 0
    kv_pages_evicted: int = 0
    prefix_tokens_queried: int = 0
    prefix_tokens_hit: int = 0


class Reader(Protocol):
    """The other end of a sequence's stream; `taken` tokens have left the buffer.

    From `is_cancelled` on it takes no more, whatever the step in flight brings.
    """

    taken: int
    is_cancelled: bool


@dataclass
class StepResult:
    """What a step, and the commands before it, brought about.

    `worked` is False where there was nothing to compute: the caller may sleep.
    It is true as a whole where there is something to deliver.
    """

    worked: bool = False
    events: list[tuple[Reader, Event]] = field(default_factory=list)
    telemetry: list[Telemetry] = field(default_factory=list)
    outcomes: list[tuple[Reader, Outcome]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.telemetry or self.outcomes)
