"""A candidate on trial beside the live policy; what is served, counted and decided of it.

    shadow      the candidate decides nothing; what it would have done is logged
    canary      it decides the sessions that `promotion.in_canary` gives it
    then        promoted, rolled_back (a drop was found) or stopped (by a person)

Every decision of a trial carries the weight of its action under the candidate against
the mixture that was served, with share s and rho = P_candidate(a) / P_live(a):

    w = rho / (s rho + 1 - s)

so that decisions of both arms estimate one value (balance heuristic, Veach & Guibas
1995). Rewards are centred on the mean of their task. The state is part of the
learner's checkpoint: a drop is found, and the canary ended, in the same write that
counts the feedback which showed it.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from services.controller.trust.canary import Canary
from services.controller.trust.evaluation import NOTHING_KNOWN, Estimate, interval
from services.controller.trust.promotion import Verdict, gate, in_canary

LARGEST_WEIGHT = 20.0
SHARES = (0.01, 0.5)


class Stage(enum.Enum):
    """How far a candidate is."""

    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"

    @property
    def is_running(self) -> bool:
        """Whether decisions still take part."""
        return self in (Stage.SHADOW, Stage.CANARY)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Running sums of weights w and rewards r: enough for SNIPS and its interval."""

    count: int = 0
    weights: float = 0.0
    weights_squared: float = 0.0
    rewards: float = 0.0
    rewards_by_squares: float = 0.0
    squares: float = 0.0
    agreed: int = 0

    def earned(self, weight: float, reward: float, agreed: bool) -> Evidence:
        """Take up one reward; `agreed` where the candidate would have done the same."""
        weight = min(weight, LARGEST_WEIGHT)
        return Evidence(
            self.count + 1,
            self.weights + weight,
            self.weights_squared + weight * weight,
            self.rewards + weight * reward,
            self.rewards_by_squares + weight * weight * reward,
            self.squares + weight * weight * reward * reward,
            self.agreed + agreed,
        )

    @property
    def estimate(self) -> Estimate:
        """What the candidate earns a request, above the mean of its tasks (SNIPS)."""
        if self.count < 2 or self.weights <= 0.0:
            return NOTHING_KNOWN
        value = self.rewards / self.weights
        spread = self.squares - 2.0 * value * self.rewards_by_squares
        spread += value * value * self.weights_squared
        reach = interval(math.sqrt(max(spread, 0.0)) / self.weights)
        effective = self.weights**2 / self.weights_squared
        mean_weight = self.weights / self.count
        return Estimate(value, value - reach, value + reach, self.count, effective, mean_weight)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One trial; `number` tells trials apart, `promotes` lets it end in promotion by itself."""

    number: int
    candidate: int
    stage: Stage
    share: float
    promotes: bool = False
    began_unix_ms: int = 0
    canary: Canary = field(default_factory=Canary)
    evidence: Evidence = field(default_factory=Evidence)

    def decides(self, key: str) -> bool:
        """Return whether the candidate decides for this session, or request without one."""
        return self.stage is Stage.CANARY and in_canary(key, self.candidate, self.share)

    def weight(self, ratio: float) -> float:
        """Return w for rho = `ratio`, which may be infinite."""
        share = self.share if self.stage is Stage.CANARY else 0.0
        if math.isinf(ratio):
            return 1.0 / share if share > 0.0 else LARGEST_WEIGHT
        return ratio / (share * ratio + 1.0 - share)

    @property
    def is_better(self) -> bool:
        """Whether the lower bound of the candidate beats what the live policy earns."""
        return gate(self.evidence.estimate, self.canary.mean) is Verdict.PROMOTE

    def judged(
        self, task: int, by_candidate: bool, weight: float, reward: float, agreed: bool
    ) -> Rollout:
        """Take up one reward of this trial, centred on the mean of its task."""
        evidence = self.evidence.earned(weight, reward, agreed)
        canary = self.canary
        earned = canary.canary_earned if by_candidate else canary.control_earned
        canary = earned(task, reward)
        judged = replace(self, canary=canary, evidence=evidence)
        if canary.verdict is Verdict.ROLL_BACK:
            return replace(judged, stage=Stage.ROLLED_BACK)
        if canary.verdict is Verdict.PROMOTE and self.promotes and judged.is_better:
            return replace(judged, stage=Stage.PROMOTED)
        return judged

    def to_json(self) -> str:
        """Return the stored form; equal values give equal text."""
        stored = asdict(self)
        stored["stage"] = self.stage.value
        stored["canary"] = self.canary.to_dict()
        return json.dumps(stored, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Rollout:
        """Undo `to_json`."""
        stored: dict[str, Any] = json.loads(text)
        members = {
            "stage": Stage(stored["stage"]),
            "canary": Canary.from_dict(stored["canary"]),
            "evidence": Evidence(**stored["evidence"]),
        }
        return cls(**{**stored, **members})
