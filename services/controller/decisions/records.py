"""What is written down: decisions, outcomes, feedback and versions, and their JSON.

JSON of Python writes the shortest digits that read back to the same float64, so
nothing is lost on the way through Redis and a replay is equal bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.controller.capabilities import USUAL
from services.controller.decisions.decision import Decision, Trial
from services.controller.policies.actions import Action
from services.controller.policies.policy import Parameters, parameters_of, prior
from services.controller.sampling import NO_PENALTIES, ProgramKind


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks; `traceparent` may be empty, `tenant` never is."""

    request_id: str = ""
    session_id: str = ""
    tenant: str = "default"
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision as it is stored: enough to replay the request and to learn from it."""

    decision: Decision
    context: Context
    model: str
    route: str
    created_unix_ms: int

    @property
    def decision_id(self) -> str:
        """The id that joins plan, outcome and feedback."""
        return self.decision.decision_id

    def to_json(self) -> str:
        """Return the stored form; `LoggedDecision.from_json` reads what the learner needs."""
        decision = self.decision
        envelope = decision.envelope
        return _dumps(
            {
                "decision_id": decision.decision_id,
                **asdict(self.context),
                "model": self.model,
                "route": self.route,
                "created_unix_ms": self.created_unix_ms,
                "policy_version": decision.policy_version,
                "source": decision.source.value,
                "mode": decision.mode.value,
                "task": decision.observation.task,
                "features": decision.observation.features.tolist(),
                "scenario": envelope.scenario,
                "lower": envelope.lower,
                "upper": envelope.upper,
                "paths": envelope.paths,
                "quality_weight": envelope.quality_weight,
                "latency_weight": envelope.latency_weight,
                "queue_weight": envelope.queue_weight,
                "explored": decision.explored,
                "policy_temperature": decision.policy_temperature,
                "log_density": decision.log_density,
                "propensity": decision.propensity,
                "guard": decision.action.guard if decision.action else "top_n_sigma",
                "cap_share": decision.action.cap_share if decision.action else 1.0,
                "path": decision.action.path if decision.action else "standard",
                "program": decision.envelope.program
                if decision.explored
                else type(decision.sampling.program).__name__.lower(),
                "own_penalties": decision.sampling.penalties != NO_PENALTIES,
                "sampling": _sampling_json(decision),
                "token_budget": decision.token_budget,
                "seed": decision.seed,
                "forecast": None if decision.forecast is None else asdict(decision.forecast),
                "trial": None if decision.trial is None else asdict(decision.trial),
            }
        )


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """The part of a stored decision that learning needs.

    Where `explored`, `policy_temperature` is what decoded, drawn from
    [lower, upper] with `log_density` or, from a grid of actions, `propensity`.
    Members with a default were added later: older records lack them.
    """

    decision_id: str
    traceparent: str
    task: str
    features: tuple[float, ...]
    lower: float
    upper: float
    quality_weight: float
    latency_weight: float
    explored: bool
    policy_temperature: float
    log_density: float
    propensity: float = 0.0
    guard: str = "top_n_sigma"
    cap_share: float = 1.0
    path: str = "standard"
    policy_version: int = 0
    paths: tuple[str, ...] = USUAL.paths
    queue_weight: float = 0.0
    program: ProgramKind = "fixed"
    own_penalties: bool = False
    trial: Trial | None = None

    @property
    def action(self) -> Action:
        """What was drawn, as a cell of a grid."""
        return Action(self.policy_temperature, self.guard, self.cap_share, self.path)

    @classmethod
    def from_json(cls, text: str) -> LoggedDecision:
        """Read a stored decision; raise ValueError, KeyError or TypeError where it is not one."""
        stored = json.loads(text)
        return cls.from_lists(stored)

    @classmethod
    def from_lists(cls, stored: Mapping[str, Any]) -> LoggedDecision:
        """Read nested lists; members that learning does not need are passed over."""
        trial = stored.get("trial")
        stored = {
            **stored,
            "features": tuple(stored["features"]),
            "paths": tuple(stored.get("paths", USUAL.paths)),
            "trial": Trial(**trial) if trial else None,
        }
        return cls(**{name: stored[name] for name in cls.__slots__ if name in stored})

    def to_json(self) -> str:
        """Return a form that `from_json` reads."""
        return _dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How decoding went. Times in microseconds; `temperatures` is the trace, one a token."""

    decision_id: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    queue_time_us: int
    prefill_time_us: int
    decode_time_us: int
    mean_temperature: float = 0.0
    mean_entropy: float = 0.0
    prefill_entropy: float = 0.0
    mean_log_probability: float = 0.0
    repetition: float = 0.0
    temperatures: tuple[float, ...] = ()

    @property
    def service_time_s(self) -> float:
        """Seconds the engine worked for the request; waiting in the queue is apart."""
        return (self.prefill_time_us + self.decode_time_us) / 1e6

    @property
    def queue_time_s(self) -> float:
        """Seconds the request waited for the engine."""
        return self.queue_time_us / 1e6

    def to_json(self) -> str:
        """Return the whole outcome, trace included."""
        return _dumps(asdict(self))

    def to_event_json(self) -> str:
        """Return the outcome without its trace, which nothing is learned from."""
        return _dumps({**asdict(self), "temperatures": ()})

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Undo `to_json`."""
        stored = json.loads(text)
        return cls(**{**stored, "temperatures": tuple(stored["temperatures"])})


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a user said of an answer; `score` in [-1, 1]."""

    tenant: str
    feedback_id: str
    decision_id: str
    score: float
    signal: str = "explicit"
    comment: str = ""

    def to_json(self) -> str:
        """Return the content; equal content gives equal text."""
        return _dumps(asdict(self))

    def to_event_json(self) -> str:
        """Return the content without the comment, which nothing is learned from."""
        return _dumps({**asdict(self), "comment": ""})

    @classmethod
    def from_json(cls, text: str) -> Feedback:
        """Undo `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One published version of the policy; `reason` is `prior`, `learned`, `promoted`,
    `rolled_back`, `imported`, or `guarded` where the guardrail rolled back.
    """

    version: int
    parameters: Parameters
    created_unix_ms: int
    reason: str
    parent_version: int
    feedback_count: int

    @property
    def kind(self) -> str:
        """The kind of policy, a key of `policy.KINDS`."""
        return self.parameters.kind

    def to_json(self) -> str:
        """Return the stored form."""
        return _dumps(
            {
                "version": self.version,
                "kind": self.kind,
                "created_unix_ms": self.created_unix_ms,
                "reason": self.reason,
                "parent_version": self.parent_version,
                "feedback_count": self.feedback_count,
                "parameters": self.parameters.to_lists(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> PolicyVersion:
        """Undo `to_json`; raise ValueError, KeyError or TypeError where it does not fit."""
        stored = json.loads(text)
        parameters = parameters_of(stored.pop("kind"), stored.pop("parameters"))
        return cls(**stored, parameters=parameters)


def prior_version(created_unix_ms: int, parameters: Parameters | None = None) -> PolicyVersion:
    """Return version 1 of a new installation; `parameters` default to the packaged prior."""
    return PolicyVersion(1, parameters or prior(), created_unix_ms, "prior", 0, 0)


def _sampling_json(decision: Decision) -> Mapping[str, Any]:
    stored = asdict(decision.sampling)
    return {**stored, "logit_bias": dict(decision.sampling.logit_bias)}


def _dumps(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
