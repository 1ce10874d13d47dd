"""Watches what the learned policy earns and goes back when it collapses.

Rewards have a level, followed slowly. Surprise below it, in standard deviations
beyond three quarters of one, adds up. While much has gathered nothing is learned,
so that a policy does not follow what may be an attack; at ALARM the learner

    1. publishes the last parameters that were good, and
    2. stops learning for PROBATION pieces of feedback.

Then the rewards of the probation decide. Where the good policy earns about the
negative of what it used to, it is the feedback that is turned round: another
probation follows, until feedback makes sense again or a person steps in.
Otherwise the world has changed, and learning goes on from the good parameters
at the new level. A few flipped pieces of feedback, 10 % say, only lower the level.

Pure: the state is part of the learner's checkpoint, so a rollback is published
by the same compare-and-set as everything else.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Any

from services.controller.policy import Parameters, parameters_of

SETTLING = 100
"""Pieces of feedback before the guardrail trusts its level."""

PROBATION = 150
ALARM = 10.0
PIN_EVERY = 100
_SLACK = 0.75
_LARGEST_SURPRISE = 3.0
_CALM, _SUSPICIOUS = 3.0, 4.0
_RATE = 0.01
_LEAST_VARIANCE = 1e-3
_TURNED_ROUND = 0.5


class Verdict(enum.Enum):
    """What to do with one piece of feedback."""

    LEARN = "learn"
    ROLL_BACK = "roll_back"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """The state; `pinned` are the last good parameters, `held` counts the probation down."""

    level: float = 0.0
    variance: float = 0.25
    seen: int = 0
    gathered: float = 0.0
    held: int = 0
    earned: float = 0.0
    rollbacks: int = 0
    pinned: Parameters | None = None

    def watch(self, gained: float, parameters: Parameters) -> tuple[Guardrail, Verdict]:
        """Take up one reward earned under `parameters`."""
        if self.held > 0:
            return self._probation(gained), Verdict.HOLD
        surprise = (self.level - gained) / math.sqrt(max(self.variance, _LEAST_VARIANCE))
        gathered = 0.0
        if self.seen >= SETTLING:
            step = min(surprise, _LARGEST_SURPRISE) - _SLACK
            gathered = max(0.0, self.gathered + step)
        if gathered > ALARM and self.pinned is not None:
            alarmed = replace(
                self, gathered=0.0, held=PROBATION, earned=0.0, rollbacks=self.rollbacks + 1
            )
            return alarmed, Verdict.ROLL_BACK
        if gathered > _SUSPICIOUS:
            # neither level nor policy follow a fall that may be an attack
            return replace(self, gathered=gathered), Verdict.HOLD
        return self._followed(gained, gathered, parameters), Verdict.LEARN

    def _followed(self, gained: float, gathered: float, parameters: Parameters) -> Guardrail:
        rate = max(_RATE, 1.0 / (self.seen + 1))
        miss = gained - self.level
        calm = self.seen % PIN_EVERY == 0 and gathered < _CALM
        return replace(
            self,
            level=self.level + rate * miss,
            variance=self.variance + rate * (miss * miss - self.variance),
            seen=self.seen + 1,
            gathered=gathered,
            pinned=parameters if calm or self.pinned is None else self.pinned,
        )

    def _probation(self, gained: float) -> Guardrail:
        earned, held = self.earned + gained, self.held - 1
        if held > 0:
            return replace(self, earned=earned, held=held)
        mean = earned / PROBATION
        if self.level > 0.0 and mean < -_TURNED_ROUND * self.level:
            return replace(self, earned=0.0, held=PROBATION)
        return replace(self, level=mean, seen=0, earned=0.0, held=0)

    def to_lists(self) -> dict[str, Any]:
        """Return the stored form."""
        names = ("level", "variance", "seen", "gathered", "held", "earned", "rollbacks")
        pinned = None
        if self.pinned is not None:
            pinned = {"kind": self.pinned.kind, "parameters": self.pinned.to_lists()}
        return {**{name: getattr(self, name) for name in names}, "pinned": pinned}

    @classmethod
    def from_lists(cls, stored: dict[str, Any]) -> Guardrail:
        """Undo `to_lists`."""
        pinned = stored["pinned"]
        if pinned is not None:
            pinned = parameters_of(pinned["kind"], pinned["parameters"])
        return cls(**{**stored, "pinned": pinned})
