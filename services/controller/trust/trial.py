"""The decision path of a rollout: which version decides, and what the other would do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from services.controller.decisions.decision import Decision, Trial
from services.controller.policies.actions import Action
from services.controller.policies.policy import PolicySnapshot
from services.controller.trust.rollout import Rollout

# Two temperatures nearer than this are one decision.
_SAME = 0.05


@dataclass(frozen=True, slots=True)
class _Logged:
    """A decision as `PolicySnapshot.importance` reads it."""

    features: tuple[float, ...]
    task: str
    lower: float
    upper: float
    paths: tuple[str, ...]
    log_density: float
    propensity: float
    action: Action


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running rollout and the snapshot of its candidate."""

    rollout: Rollout
    snapshot: PolicySnapshot

    def chosen(self, key: str, live: PolicySnapshot) -> PolicySnapshot:
        """Return the snapshot that decides for the session or request `key`."""
        return self.snapshot if self.rollout.decides(key) else live

    def noted(
        self, decision: Decision, live: PolicySnapshot, generator: np.random.Generator
    ) -> Decision:
        """Return the decision with its arm, its weight, and what the candidate would do.

        Only explored decisions take part: others are not the policy's.
        """
        if not decision.explored or decision.action is None:
            return decision
        mine = decision.policy_version == self.snapshot.version
        weight = self.rollout.weight(self._ratio(decision, decision.action, live, mine))
        wanted = decision.action if mine else self._wanted(decision, generator)
        agreed = abs(wanted.temperature - decision.action.temperature) < _SAME
        trial = Trial(self.rollout.number, mine, weight, wanted.temperature, agreed)
        return replace(decision, trial=trial)

    def _ratio(self, decision: Decision, action: Action, live: PolicySnapshot, mine: bool) -> float:
        """Return how much more likely the candidate is to do this than the live policy."""
        logged = _Logged(
            tuple(decision.observation.features.tolist()),
            decision.observation.task,
            decision.envelope.lower,
            decision.envelope.upper,
            decision.envelope.paths,
            decision.log_density,
            decision.propensity,
            action,
        )
        if not mine:
            return self.snapshot.importance(logged)
        other = live.importance(logged)
        return 1.0 / other if other > 0.0 else math.inf

    def _wanted(self, decision: Decision, generator: np.random.Generator) -> Action:
        envelope, seen = decision.envelope, decision.observation
        draw = self.snapshot.draw(
            seen.features,
            seen.task,
            envelope.lower,
            envelope.upper,
            generator,
            paths=envelope.paths,
        )
        return draw.action
