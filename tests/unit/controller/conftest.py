"""Values that the controller's tests begin from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.records import LoggedDecision
from services.controller.policies.gaussian import NEUTRAL, prior
from services.controller.policies.policy import PolicySnapshot
from thermesh.features import INDEX, TASKS


def observed(task, confidence=0.8):
    """Features of a request that the classifier takes for `task`."""
    features = NEUTRAL.copy()
    for each in TASKS:
        features[INDEX[f"task_{each}"]] = (1 - confidence) / (len(TASKS) - 1)
    features[INDEX[f"task_{task}"]] = confidence
    return Observation(features, task)


class Maker:
    """Makes decisions and what follows from them."""

    def __init__(self):
        self.snapshot = PolicySnapshot(1, prior(), 0)
        self.generator = np.random.default_rng(5)

    def observed(self, task, confidence=0.8):
        """Features of a request of one kind."""
        return observed(task, confidence)

    def decide(self, task="chat", mode=Mode.APPLY, **constraints):
        """One decision of the prior."""
        return decide(
            self.snapshot, observed(task), Constraints(**constraints), mode, self.generator
        )

    def logged(self, decision, **changes):
        """What the learner reads of a decision."""
        envelope = decision.envelope
        logged = LoggedDecision(
            decision_id=decision.decision_id,
            traceparent="",
            task=decision.observation.task,
            features=tuple(decision.observation.features.tolist()),
            lower=envelope.lower,
            upper=envelope.upper,
            quality_weight=envelope.quality_weight,
            latency_weight=envelope.latency_weight,
            explored=decision.explored,
            policy_temperature=decision.policy_temperature,
            log_density=decision.log_density,
            propensity=decision.propensity,
        )
        if decision.action is not None:
            action = dataclasses.asdict(decision.action)
            action.pop("temperature")
            logged = dataclasses.replace(logged, **action)
        return dataclasses.replace(logged, **changes)


@pytest.fixture
def maker():
    """Makes decisions of the packaged prior from a fixed seed."""
    return Maker()
