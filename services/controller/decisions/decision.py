"""One decision: features and the user's own values in, a plan out.

Pure: the randomness is an argument, and the same generator gives the same plan.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from services.controller.capabilities import USUAL, Capabilities
from services.controller.forecasting.forecast import Forecast
from services.controller.policies.actions import Action
from services.controller.policies.envelope import Envelope, guard_of, served
from services.controller.policies.policy import NEUTRAL, Draw, PolicySnapshot, Vector
from services.controller.sampling import (
    Fixed,
    Guard,
    Penalties,
    Program,
    ProgramKind,
    Sampling,
    program_at,
)


class Mode(enum.Enum):
    """How far the policy is trusted."""

    OBSERVE = "observe"
    APPLY = "apply"
    BYPASS = "bypass"


class Source(enum.Enum):
    """Who chose the temperature."""

    POLICY = "policy"
    PINNED = "pinned"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a request: float64 [features], and the task or empty."""

    features: Vector = field(default_factory=lambda: NEUTRAL)
    task: str = ""


@dataclass(frozen=True, slots=True)
class Constraints:
    """The user's own values; what is None or empty is left to the policy."""

    temperature: float | None = None
    program: Program | None = None
    guard: Guard = field(default_factory=Guard)
    penalties: Penalties = field(default_factory=Penalties)
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    max_tokens: int = 0
    seed: int | None = None
    scenario: str = ""
    temperature_range: tuple[float, float] | None = None
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A decision's part in a rollout: whether the candidate made it, its weight there
    (`rollout`), and the temperature that the candidate would have drawn.
    """

    number: int
    by_candidate: bool
    weight: float
    candidate_temperature: float
    agreed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan and what is needed to replay and to learn from it.

    `log_density` and `propensity` are 0 and `action` may differ from what decodes
    unless `explored`; `action` is None where no policy was asked.
    """

    decision_id: str
    policy_version: int
    source: Source
    mode: Mode
    sampling: Sampling
    token_budget: int
    observation: Observation
    envelope: Envelope
    log_density: float
    propensity: float
    explored: bool
    seed: int
    action: Action | None
    trial: Trial | None = None
    forecast: Forecast | None = None

    @property
    def is_budget_bounded(self) -> bool:
        """Whether no answer so long as the scenario allows is expected."""
        return self.forecast is not None and self.token_budget == self.forecast.longest > 0

    @property
    def policy_temperature(self) -> float:
        """The temperature that the policy says; 0 where none was asked."""
        return self.action.temperature if self.action is not None else 0.0

    @property
    def compute_path(self) -> str:
        """How much work to spend on each token: `light`, `standard` or `heavy`."""
        return self.action.path if self.action is not None and self.explored else "standard"


def decide(
    snapshot: PolicySnapshot,
    observation: Observation,
    constraints: Constraints,
    mode: Mode,
    generator: np.random.Generator,
    *,
    capabilities: Capabilities = USUAL,
    forecast: Forecast | None = None,
    program: ProgramKind = "fixed",
) -> Decision:
    """Decide one request; raise InvalidArgument for an unknown scenario.

    `program` decodes at the temperatures that the policy draws, where the engine has it.
    """
    envelope = served(constraints.scenario, observation.task, program, capabilities)
    envelope = envelope.leaning(observation.features).narrowed(constraints.temperature_range)
    randomness = generator.bit_generator.random_raw(3).tobytes()  # a fifth of what `bytes` takes
    draw = _draw(snapshot, observation, envelope, mode, generator)
    source = _source(constraints, envelope, mode)
    explored = source is Source.POLICY and draw is not None
    longest = forecast.longest if forecast is not None and explored else 0
    return Decision(
        decision_id="dec-" + randomness[:16].hex(),
        policy_version=snapshot.version,
        source=source,
        mode=mode,
        sampling=_sampling(constraints, envelope, source, draw, capabilities),
        token_budget=constraints.max_tokens
        or _token_cap(envelope, draw if explored else None, longest),
        observation=observation,
        envelope=envelope,
        log_density=draw.log_density if draw is not None and explored else 0.0,
        propensity=draw.propensity if draw is not None and explored else 0.0,
        explored=explored,
        seed=_seed(constraints, randomness[16:]),
        action=draw.action if draw is not None else None,
        forecast=forecast,
    )


def _draw(
    snapshot: PolicySnapshot,
    observation: Observation,
    envelope: Envelope,
    mode: Mode,
    generator: np.random.Generator,
) -> Draw | None:
    if mode is Mode.BYPASS:
        return None
    if envelope.lower == envelope.upper:
        return Draw(Action(envelope.lower))
    return snapshot.draw(
        observation.features,
        observation.task,
        envelope.lower,
        envelope.upper,
        generator,
        paths=envelope.paths,
    )


def _source(constraints: Constraints, envelope: Envelope, mode: Mode) -> Source:
    pinned = constraints.temperature is not None or constraints.program is not None
    if pinned or envelope.lower == envelope.upper:
        return Source.PINNED
    return Source.POLICY if mode is Mode.APPLY else Source.STATIC


def _sampling(
    constraints: Constraints,
    envelope: Envelope,
    source: Source,
    draw: Draw | None,
    capabilities: Capabilities,
) -> Sampling:
    guard = _guard(envelope, source, draw, capabilities)
    return Sampling(
        program=_program(constraints, envelope, source, draw),
        guard=constraints.guard.or_else(guard),
        penalties=constraints.penalties,
        logit_bias=constraints.logit_bias,
    )


def _program(
    constraints: Constraints, envelope: Envelope, source: Source, draw: Draw | None
) -> Program:
    if constraints.program is not None:
        return constraints.program
    if constraints.temperature is not None:
        return Fixed(constraints.temperature)
    if source is Source.POLICY and draw is not None:
        return program_at(envelope.program, draw.temperature)
    return Fixed(envelope.static_temperature)


def _guard(
    envelope: Envelope, source: Source, draw: Draw | None, capabilities: Capabilities
) -> Guard:
    if source is not Source.POLICY or draw is None:
        return envelope.guard
    return guard_of(draw.action.guard, capabilities.guards)


def _token_cap(envelope: Envelope, draw: Draw | None, longest: int) -> int:
    share = draw.action.cap_share if draw is not None else 1.0
    cap = max(1, round(share * envelope.token_cap))
    return min(cap, longest) if longest else cap


def _seed(constraints: Constraints, randomness: bytes) -> int:
    # 53 bits: clients that read JSON numbers as doubles keep every digit
    drawn = int.from_bytes(randomness, "big") >> (8 * len(randomness) - 53)
    return drawn if constraints.seed is None else constraints.seed
