"""Watches what feedback says against what was earned before, and goes back when it turns.

What was earned is kept by place (task and level of temperature): a mean m with the
number of rewards behind it. Each new reward r is weighed by two stories,

    feedback is as it was   r ~ Normal(m, v)
    feedback has turned     r ~ Normal(-m, v)

and the logarithm of their ratio adds up while it stays above 0 (Page's test). The
story is about the place, not about the policy: a policy that already follows turned
feedback to where little was earned is found out there as well. Of a place where hardly
anything was earned the last good parameters say what to expect, so that turned feedback
cannot vouch for a place it was the first to lead to. While much has gathered feedback is
put aside, to be learned from once the suspicion has passed; at ALARM what was put aside
is dropped and the learner

    1. publishes the last parameters that were good, in a cautious form (`caution`), and
    2. stops learning for PROBATION pieces of feedback.

Then agreement with what was earned, sum r m / sum m^2, decides. About -1 is feedback
turned round: another probation follows, until it makes sense again or a person steps
in. About 1 was a false alarm, and learning goes on. Between the two feedback may be
turning still, so it is asked once more; where a second probation in a row says so the
world has changed: learning goes on from the good parameters with nothing taken for
granted. A few flipped pieces of feedback, 10 % say, only lower the means.

The same ratio adds up for each tenant: one whose feedback contradicts what all say is
not heard while it does. And since whoever sends feedback cannot fake how decoding went,
answers that loop or drift (`broken`) have a sum of their own: praise cannot keep a
policy that produces them.

Pure: the state is part of the learner's checkpoint, so a rollback is published
by the same compare-and-set as everything else.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from services.controller.policies.policy import Parameters, believed, evidence, parameters_of

SETTLING = 100
"""Pieces of feedback before the guardrail trusts what was earned."""

PROBATION = 150
ALARM = 18.0
MUTED = 18.0
PIN_EVERY = 100
TENANTS_LIMIT = 64
_LARGEST_STEP = 3.0
_CALM, _SUSPICIOUS = 2.0, 3.0
# A sum beyond this forgets: who behaves again is heard again after as much good.
_LARGEST_SUM = 3.0 * MUTED
_RATE = 0.004
_VARIANCE_RATE = 0.01
_LEAST_VARIANCE = 1e-3
# Of the evidence that the pinned parameters rest on.
_LEAST_EVIDENCE = 0.7
# What a place must have seen before its mean is half believed.
_HALF_KNOWN = 5.0
_TURNED_ROUND, _AS_BEFORE = -0.25, 0.5

# Answers that loop or drift: their usual share, and how much more is an alarm.
_USUAL_BROKEN, _BROKEN_RATE, _MUCH_MORE = 0.05, 0.002, 0.3
_LEVELS_PER_UNIT = 5


class Verdict(enum.Enum):
    """What to do with one piece of feedback."""

    LEARN = "learn"
    DEFER = "defer"
    ROLL_BACK = "roll_back"
    HOLD = "hold"


def place_of(context: int, temperature: float) -> str:
    """Return the place of a decision: its task's context and its level of temperature."""
    return f"{context}:{round(temperature * _LEVELS_PER_UNIT)}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One reward, where it was earned, who gave it, and whether the answer was broken."""

    gained: float
    place: str
    tenant: str = "default"
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Guardrail:
    """The state; `pinned` are the last good parameters, `held` counts the probation down.

    `earned` is (count, mean) by place; `tenants` and `gathered` are the sums of the
    test; `agreement` and `strength` are those of the probation, `was_between` what the one
    before it found; `silenced` counts feedback of muted tenants.
    """

    earned: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    variance: float = 0.25
    seen: int = 0
    gathered: float = 0.0
    tenants: Mapping[str, float] = field(default_factory=dict)
    silenced: int = 0
    broken_share: float = _USUAL_BROKEN
    broken_gathered: float = 0.0
    held: int = 0
    agreement: float = 0.0
    strength: float = 0.0
    was_between: bool = False
    rollbacks: int = 0
    pinned: Parameters | None = None

    def watch(self, sighting: Sighting) -> tuple[Guardrail, Verdict]:
        """Take up one reward, and say what to do with it."""
        if self.held > 0:
            return self._probation(sighting), Verdict.HOLD
        settled = self.seen >= SETTLING
        step = self._step(sighting) if settled else 0.0
        watched = self.with_tenant(sighting.tenant, step).with_outcome(sighting.broken)
        if self.tenants.get(sighting.tenant, 0.0) > MUTED:
            return replace(watched, silenced=self.silenced + 1), Verdict.HOLD
        gathered = max(0.0, self.gathered + step)
        alarm = gathered > ALARM or watched.broken_gathered > ALARM
        if settled and alarm and self.pinned is not None:
            return watched.alarmed(), Verdict.ROLL_BACK
        watched = replace(watched, gathered=gathered)
        if gathered > _SUSPICIOUS:
            # neither what was earned nor the policy follow what may be an attack
            return watched, Verdict.DEFER
        return watched, Verdict.LEARN

    def expected(self, place: str) -> float:
        """Return what was earned at `place`, towards what `pinned` believes where it is little."""
        count, mean = self.earned.get(place, (0.0, 0.0))
        return (mean * count + _HALF_KNOWN * self._believed(place)) / (count + _HALF_KNOWN)

    def _believed(self, place: str) -> float:
        if self.pinned is None:
            return 0.0
        context, level = place.split(":")
        return believed(self.pinned, int(context), int(level) / _LEVELS_PER_UNIT)

    def _step(self, sighting: Sighting) -> float:
        """Return ln of how much more likely the reward is if feedback has turned, bounded."""
        mean = self.expected(sighting.place)
        variance = max(self.variance, _LEAST_VARIANCE)
        turned = -2.0 * mean * sighting.gained / variance
        return min(max(turned, -_LARGEST_STEP), _LARGEST_STEP)

    def with_tenant(self, tenant: str, step: float) -> Guardrail:
        """Add to the sum of a tenant."""
        gathered = min(max(0.0, self.tenants.get(tenant, 0.0) + step), _LARGEST_SUM)
        tenants = {name: each for name, each in self.tenants.items() if name != tenant}
        if gathered > 0.0:
            tenants[tenant] = gathered
        if len(tenants) > TENANTS_LIMIT:
            del tenants[min(tenants, key=lambda name: (tenants[name], name))]
        return replace(self, tenants=tenants)

    def with_outcome(self, broken: bool) -> Guardrail:
        """Add to the sum of broken answers."""
        usual = min(max(self.broken_share, _USUAL_BROKEN), 0.6)
        more = usual + _MUCH_MORE
        step = math.log(more / usual if broken else (1.0 - more) / (1.0 - usual))
        share = self.broken_share + _BROKEN_RATE * (broken - self.broken_share)
        gathered = max(0.0, self.broken_gathered + step)
        return replace(self, broken_share=share, broken_gathered=gathered)

    def alarmed(self) -> Guardrail:
        """Begin the first probation."""
        return replace(
            self,
            gathered=0.0,
            broken_gathered=0.0,
            held=PROBATION,
            agreement=0.0,
            strength=0.0,
            rollbacks=self.rollbacks + 1,
        )

    def followed(self, sighting: Sighting, parameters: Parameters) -> Guardrail:
        """Take up a reward that is learned from under `parameters`."""
        count, mean = self.earned.get(sighting.place, (0.0, 0.0))
        miss = sighting.gained - mean
        followed = (count + 1.0, mean + max(_RATE, 1.0 / (count + 1.0)) * miss)
        rate = max(_VARIANCE_RATE, 1.0 / (self.seen + 1)) if count else 0.0
        return replace(
            self,
            earned={**self.earned, sighting.place: followed},
            variance=self.variance + rate * (miss * miss - self.variance),
            seen=self.seen + 1,
            pinned=self._good(parameters),
        )

    def _good(self, parameters: Parameters) -> Parameters:
        """Return what to go back to from here on.

        A bandit that has just dropped most of its beliefs explores widely, and is
        not better than what was pinned before.
        """
        if self.pinned is None:
            return parameters
        calm = self.seen % PIN_EVERY == 0 and self.gathered < _CALM
        knows = evidence(parameters) >= _LEAST_EVIDENCE * evidence(self.pinned)
        return parameters if calm and knows else self.pinned

    def _probation(self, sighting: Sighting) -> Guardrail:
        mean = self.expected(sighting.place)
        watched = replace(
            self,
            held=self.held - 1,
            agreement=self.agreement + sighting.gained * mean,
            strength=self.strength + mean * mean,
        )
        if watched.held > 0:
            return watched
        if watched.agreement > _AS_BEFORE * watched.strength:
            return replace(watched, was_between=False)
        is_between = watched.agreement >= _TURNED_ROUND * watched.strength
        if not (is_between and self.was_between):
            return replace(
                watched, held=PROBATION, agreement=0.0, strength=0.0, was_between=is_between
            )
        # what was good is kept as the first to go back to
        return Guardrail(rollbacks=self.rollbacks, silenced=self.silenced, pinned=self.pinned)

    def to_lists(self) -> dict[str, Any]:
        """Return the stored form."""
        stored = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.pinned is not None:
            stored["pinned"] = {"kind": self.pinned.kind, "parameters": self.pinned.to_lists()}
        return stored

    @classmethod
    def from_lists(cls, stored: dict[str, Any]) -> Guardrail:
        """Undo `to_lists`; a state of an older form begins anew."""
        if stored.keys() != {each.name for each in fields(cls)}:
            return cls()
        earned = {place: (count, mean) for place, (count, mean) in stored["earned"].items()}
        pinned = stored["pinned"]
        if pinned is not None:
            pinned = parameters_of(pinned["kind"], pinned["parameters"])
        return cls(**{**stored, "earned": earned, "pinned": pinned})
