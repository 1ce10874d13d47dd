"""What enters the engine: a request, its plan, and changes while it runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.inference.sampling.constraint import Matcher, OutputConstraint
from services.inference.sampling.settings import Guard, Penalties, Program, Sampling
from thermesh.errors import InvalidArgument

ROLES = ("system", "user", "assistant")
"""Who may speak in a conversation."""


class Priority(enum.IntEnum):
    """Classes of requests, numbered as in `common.proto`; higher goes first."""

    BATCH = 1
    STANDARD = 2
    INTERACTIVE = 3
    VOICE = 4


class ComputePath(enum.IntEnum):
    """How much work to spend on each token, numbered as in `common.proto`."""

    LIGHT = 1
    STANDARD = 2
    HEAVY = 3

    @classmethod
    def of(cls, number: int) -> ComputePath:
        """Return the member of that number; STANDARD where there is none."""
        return cls(number) if number in set(cls) else cls.STANDARD


class Source(enum.Enum):
    """Who asked for a change of parameters."""

    PLAN = "plan"
    CLIENT = "client"
    CONTROLLER = "controller"


@dataclass(frozen=True)
class Context:
    """Who asks; travels with the request and comes back in its outcome."""

    request_id: str
    session_id: str = ""
    tenant: str = "default"
    priority: Priority = Priority.STANDARD
    deadline_unix_ms: int = 0
    traceparent: str = ""


@dataclass(frozen=True)
class Request:
    """One generation, validated and tokenised.

    `max_tokens` 0 is up to the context. `deadline` is on the engine's
    monotonic clock, in seconds. `initial_credit` 0 is no limit but the bound
    on buffered tokens. `constraint` follows the output and belongs to the engine.
    """

    context: Context
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    candidate_count: int = 0
    expects_plan: bool = False
    plan_grace_seconds: float = 0.025
    initial_credit: int = 0
    ignore_end_of_sequence: bool = False
    deadline: float | None = None
    constraint: Matcher | None = None


@dataclass(frozen=True)
class Plan:
    """What the controller decided; `token_budget` 0 is up to the context."""

    sampling: Sampling
    seed: int
    decision_id: str = ""
    policy_version: int = 0
    source: str = ""
    token_budget: int = 0
    scenario: str = ""
    task: str = ""
    is_pinned: bool = False
    compute_path: ComputePath = ComputePath.STANDARD

    def validate(self, path: str, vocabulary_size: int) -> None:
        """Refuse sampling out of range, naming the field below `path`."""
        self.sampling.validate(f"{path}.sampling", vocabulary_size)


@dataclass(frozen=True)
class Update:
    """A change of a running request; members that are None stay as they are."""

    source: Source
    update_id: int
    program: Program | None = None
    guard: Guard | None = None
    penalties: Penalties | None = None
    token_budget: int | None = None

    def validate(self) -> None:
        """Refuse members out of range and an update that changes nothing."""
        if self.update_id < 1:
            raise InvalidArgument("update_id must be at least 1", field="update_id")
        members = (self.program, self.guard, self.penalties, self.token_budget)
        if all(member is None for member in members):
            message = "one of program, guard, penalties, token_budget must be set"
            raise InvalidArgument(message, field="program")
        if self.program is not None:
            self.program.validate("program")
        if self.guard is not None:
            self.guard.validate("guard")
        if self.penalties is not None:
            self.penalties.validate("penalties")


@dataclass(frozen=True)
class ChatTurn:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Start:
    """A generation as the client asked for it, not yet tokenised.

    Exactly one of `chat`, `prompt`, `token_ids` is set. `seed` None is drawn.
    """

    context: Context
    model: str = ""
    chat: tuple[ChatTurn, ...] | None = None
    prompt: str | None = None
    token_ids: tuple[int, ...] | None = None
    sampling: Sampling | None = None
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    candidate_count: int = 0
    seed: int | None = None
    expects_plan: bool = False
    plan_grace_ms: int = 0
    initial_credit: int = 0
    ignore_end_of_sequence: bool = False
    constraint: OutputConstraint | None = None
