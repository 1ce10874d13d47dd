"""How tokens are drawn, as values: the gateway's words for common.proto's sampling and plan.

Ranges are in `limits`; these types only hold what was checked.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class PlanSource(enum.StrEnum):
    """Who chose the temperature of a plan."""

    POLICY = "policy"
    PINNED = "pinned"
    STATIC = "static"
    FALLBACK = "fallback"


class Mode(enum.StrEnum):
    """How far the policy is trusted on a route."""

    OBSERVE = "observe"
    APPLY = "apply"
    BYPASS = "bypass"


class ComputePath(enum.StrEnum):
    """How much work the engine does per token."""

    LIGHT = "light"
    STANDARD = "standard"
    HEAVY = "heavy"


class FinishReason(enum.StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    STOP_STRING = "stop_string"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"


class UpdateSource(enum.StrEnum):
    """Who asked for a change of a running request's parameters."""

    PLAN = "plan"
    CLIENT = "client"
    CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class FixedProgram:
    """Every token at one temperature; 0 is greedy."""

    temperature: float


@dataclass(frozen=True, slots=True)
class EdtProgram:
    """Entropy-based dynamic temperature (arXiv 2403.14541); theta in nats."""

    base_temperature: float
    theta: float


@dataclass(frozen=True, slots=True)
class DynatempProgram:
    """llama.cpp's dynamic temperature: temperature +- range, bent by exponent."""

    temperature: float
    range: float
    exponent: float


@dataclass(frozen=True, slots=True)
class ResidualProgram:
    """A temperature corrected by each token's entropy: 1/T by slope a nat from centre on,
    T at most by range.
    """

    temperature: float
    slope: float
    centre: float
    range: float


Program = FixedProgram | EdtProgram | DynatempProgram | ResidualProgram


def nominal_temperature(program: Program) -> float:
    """Return the one temperature that stands for a program: fixed, ceiling or middle."""
    if isinstance(program, EdtProgram):
        return program.base_temperature
    return program.temperature


@dataclass(frozen=True, slots=True)
class Guard:
    """What cuts the tail before temperature is applied; None: not set."""

    top_n_sigma: float | None = None
    min_p: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class Penalties:
    """What lowers the logits of tokens used before; the defaults are off."""

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """Everything the sampler needs to draw one token."""

    program: Program
    guard: Guard = Guard()
    penalties: Penalties = Penalties()
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TemperatureRange:
    """A narrower envelope for one request."""

    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Constraints:
    """The values a user set; they win over the policy. None and 0 as in controller.proto."""

    temperature: float | None = None
    guard: Guard = Guard()
    penalties: Penalties = Penalties()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    max_tokens: int = 0
    seed: int | None = None
    scenario: str = ""
    temperature_range: TemperatureRange | None = None
    mode: Mode | None = None
    program: Program | None = None

    @property
    def pinned(self) -> bool:
        """Whether the user fixed the temperature."""
        return self.temperature is not None or self.program is not None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a request was expected to cost; see common.proto for each member."""

    prefill_seconds: float
    output_tokens: int
    output_tokens_high: int
    total_seconds: float
    latency_cost: float
    misses_deadline: bool
    bounds_budget: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided for one request; see DecodingPlan for each member."""

    source: PlanSource
    sampling: Sampling
    seed: int
    decision_id: str = ""
    policy_version: int = 0
    token_budget: int = 0
    compute_path: ComputePath = ComputePath.STANDARD
    task: str = ""
    scenario: str = ""
    log_density: float = 0.0
    explored: bool = False
    policy_temperature: float = 0.0
    forecast: Forecast | None = None

    @property
    def temperature(self) -> float:
        """The nominal temperature of the plan's program."""
        return nominal_temperature(self.sampling.program)


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a running request's parameters; None leaves a member as it is."""

    update_id: int
    program: Program | None = None
    guard: Guard | None = None
    penalties: Penalties | None = None
    token_budget: int | None = None
