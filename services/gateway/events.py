"""What happens to a request, in the order a client may see it.

`Accepted`, `PlanDecided`, then `Tokens`, `Applied` and `Rejected` as they come,
and `Ended` last. `PlanDecided` always comes before the first `Tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from services.gateway.decoding import FinishReason, Plan, Sampling, UpdateSource


class Candidate(Protocol):
    """One of the most probable tokens at a position; log-probability in nats."""

    @property
    def token_id(self) -> int:
        """Id in the vocabulary."""
        ...

    @property
    def text(self) -> str:
        """What it adds to the text."""
        ...

    @property
    def log_probability(self) -> float:
        """In nats, of what it was drawn from."""
        ...


class Token(Protocol):
    """One decoded token and what the sampler saw; see common.proto for units.

    The contract's own message is one: tokens are the many things that pass through
    here, and are read where somebody wants to know, not copied on the way.
    """

    @property
    def index(self) -> int:
        """Number of the token, from 0."""
        ...

    @property
    def token_id(self) -> int:
        """Id in the vocabulary."""
        ...

    @property
    def text(self) -> str:
        """What it adds to the text."""
        ...

    @property
    def temperature(self) -> float:
        """What it was drawn at."""
        ...

    @property
    def entropy(self) -> float:
        """The model's, in nats."""
        ...

    @property
    def log_probability(self) -> float:
        """In nats, of what it was drawn from."""
        ...

    @property
    def model_log_probability(self) -> float:
        """In nats, the model's own."""
        ...

    @property
    def revision(self) -> int:
        """Of the parameters."""
        ...

    @property
    def step_time_us(self) -> int:
        """Of the step that made it."""
        ...

    @property
    def candidates(self) -> Sequence[Candidate]:
        """The most probable ones."""
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and microseconds of a request."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_time_us: int = 0
    prefill_time_us: int = 0
    decode_time_us: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is in the engine; `resume_seconds` 0: it ends with its connection."""

    model: str
    prompt_tokens: int
    resume_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanDecided:
    """How it will be decoded is settled."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one or more engine steps, in order, at least one."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """A change of parameters took effect from `token_index` on."""

    revision: int
    token_index: int
    source: UpdateSource | None
    update_id: int
    sampling: Sampling | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A change was not valid; the stream goes on as it was."""

    update_id: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Decoding is over; `discarded_tokens` came too late for an interruption."""

    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    mean_temperature: float = 0.0
    mean_entropy: float = 0.0
    discarded_tokens: int = 0

    def keeping(self, tokens: int) -> Ended:
        """Return the end as it reads for a client that kept so many tokens."""
        late = max(0, self.usage.completion_tokens - tokens)
        usage = replace(self.usage, completion_tokens=self.usage.completion_tokens - late)
        return replace(self, usage=usage, discarded_tokens=self.discarded_tokens + late)


@dataclass(frozen=True, slots=True)
class Waited:
    """Nothing happened for a while; the native door says so to proxies on the way."""


Event = Accepted | PlanDecided | Tokens | Applied | Rejected | Ended | Waited
