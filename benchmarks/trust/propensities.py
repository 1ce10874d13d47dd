"""Whether what is logged of a draw is what it was drawn with.

Decisions of a new installation are read back as they are stored and weighed by how much more
likely a version that learned since is to draw the same. Such weights average 1 where
propensities and densities are those of the draws (Horvitz and Thompson 1952); a third of the
requests brings a range of temperatures of its own.
"""

from __future__ import annotations

import json
import math

import numpy as np

from benchmarks.trust.users import ACTS_AS, features, lived
from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.records import Context, DecisionRecord, LoggedDecision
from services.controller.learning.lesson import LearnerState
from services.controller.policies.policy import KINDS, PolicySnapshot, prior

LEARNED = 200
"""Pieces of feedback: a version that learned more differs so much that few draws weigh anything."""

_SEEN = tuple(Observation(np.array(features(task)), name) for task, name in enumerate(ACTS_AS))


def measured(count: int) -> dict[str, object]:
    """Return the mean weight of `count` decisions and how many records are whole, by kind."""
    return {kind: _audited(kind, count) for kind in KINDS}


def _audited(kind: str, count: int) -> dict[str, float]:
    generator = np.random.default_rng(9)
    live, later = PolicySnapshot(1, prior(kind), 0), _learned(kind, generator)
    weights, whole = np.zeros(count), 0
    for index in range(count):
        record = _record(live, generator)
        weights[index] = later.importance(LoggedDecision.from_json(record))
        whole += _is_whole(json.loads(record))
    return {
        "decisions": count,
        "mean": float(weights.mean()),
        "standard_error": float(weights.std(ddof=1) / math.sqrt(count)),
        "effective": float(weights.sum() ** 2 / (weights**2).sum()),
        "whole": whole,
    }


def _learned(kind: str, generator: np.random.Generator) -> PolicySnapshot:
    state = LearnerState(prior(kind))
    for _ in range(LEARNED):
        state = lived(state, generator, flipped=0.0).state
    return PolicySnapshot(2, state.parameters, state.feedback_count)


def _record(live: PolicySnapshot, generator: np.random.Generator) -> str:
    wanted = None
    if generator.random() < 1 / 3:
        lower, upper = sorted(generator.uniform(0.1, 1.4, 2).tolist())
        wanted = lower, upper
    seen = _SEEN[int(generator.integers(len(_SEEN)))]
    decision = decide(live, seen, Constraints(temperature_range=wanted), Mode.APPLY, generator)
    return DecisionRecord(decision, Context(), "m", "/", 0).to_json()


def _is_whole(stored: dict[str, float]) -> bool:
    is_drawn = stored["propensity"] > 0.0 or stored["log_density"] != 0.0
    return is_drawn and stored["policy_version"] > 0 and stored["seed"] is not None
