"""One step of learning: an experience in, a slightly better policy out.

REINFORCE on the squashed Gaussian (Williams 1992) with a running baseline for
each task. The temperature was drawn by an older version, so each gradient is
weighted by how much more likely the current one is to draw it, clipped:

    R        = quality_weight * Quality - latency_weight * Latency
    w        = min(q_now(T) / q_logged(T), 3)
    gradient = w * (R - baseline[task]) * (z - mu) / sigma^2 * d mu / d parameters

Everything is float64 and a function of its arguments: the same experiences in
the same order give the same state bit for bit, which is what makes feedback
count exactly once through any number of crashes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from services.controller import policy
from services.controller.policy import Parameters
from services.controller.records import LoggedDecision
from thermesh.features import TASKS

# The abstaining classifier has a baseline of its own, after those of the tasks.
_BASELINES = len(TASKS) + 1

LEARNING_RATE = 0.02
MAXIMUM_GRADIENT_NORM = 1.0
MAXIMUM_IMPORTANCE_WEIGHT = 3.0
# The baseline is a mean at first and then follows with this rate, so that it
# forgets rewards of policies long gone.
SLOWEST_BASELINE_RATE = 0.02
# A service time of this many seconds or more is the worst latency.
WORST_SERVICE_TIME_S = 10.0


@dataclass(frozen=True, slots=True)
class LearnerState:
    """What learning goes on from: parameters, and a mean reward for each task."""

    parameters: Parameters
    feedback_count: int = 0
    baselines: tuple[float, ...] = (0.0,) * _BASELINES
    baseline_counts: tuple[int, ...] = (0,) * _BASELINES


@dataclass(frozen=True, slots=True)
class Experience:
    """A decision whose outcome and feedback are both known; `quality` in [-1, 1]."""

    decision: LoggedDecision
    quality: float
    service_time_s: float


def reward(experience: Experience) -> float:
    """Return quality_weight * Quality - latency_weight * Latency, Latency in [0, 1].

    Latency is service time as a share of WORST_SERVICE_TIME_S. Time in the
    queue says nothing of the decision and is left out.
    """
    latency = min(experience.service_time_s / WORST_SERVICE_TIME_S, 1.0)
    decision = experience.decision
    return decision.quality_weight * experience.quality - decision.latency_weight * latency


def apply(state: LearnerState, experience: Experience) -> LearnerState:
    """Learn from one experience.

    A temperature that the policy did not draw (pinned, static) moves nothing
    but the count: its reward is not that of the policy's choice.
    """
    counted = replace(state, feedback_count=state.feedback_count + 1)
    if not experience.decision.explored:
        return counted
    gained = reward(experience)
    task = _task_index(experience.decision.task)
    advantage = gained - state.baselines[task]
    return replace(
        _with_baseline(counted, task, gained),
        parameters=_ascended(state, experience.decision, advantage),
    )


def gradient(state: LearnerState, decision: LoggedDecision, advantage: float) -> Parameters:
    """Return the clipped-weight policy gradient, before the clipping of its norm."""
    features = np.array(decision.features)
    evaluated = policy.forward(state.parameters, features)
    density = policy.distribution(
        state.parameters, state.feedback_count, features, decision.lower, decision.upper
    )
    z = density.z_of(decision.policy_temperature)
    ratio = min(density.log_density_at(z) - decision.log_density, _LOG_MAXIMUM_WEIGHT)
    score = (z - density.mean) / density.sigma**2
    scale = math.exp(ratio) * advantage * score
    return _scaled(policy.gradient_of_mean(state.parameters, evaluated), scale)


_LOG_MAXIMUM_WEIGHT = math.log(MAXIMUM_IMPORTANCE_WEIGHT)


def _ascended(state: LearnerState, decision: LoggedDecision, advantage: float) -> Parameters:
    ascent = gradient(state, decision, advantage)
    norm = math.sqrt(sum(float(np.sum(array * array)) for array in _arrays(ascent)))
    step = LEARNING_RATE * min(1.0, MAXIMUM_GRADIENT_NORM / norm) if norm > 0.0 else 0.0
    pairs = zip(_arrays(state.parameters), _arrays(ascent), strict=True)
    return Parameters(*(array + step * delta for array, delta in pairs))


def _with_baseline(state: LearnerState, task: int, gained: float) -> LearnerState:
    count = state.baseline_counts[task] + 1
    rate = max(1.0 / count, SLOWEST_BASELINE_RATE)
    means, counts = list(state.baselines), list(state.baseline_counts)
    means[task] += rate * (gained - means[task])
    counts[task] = count
    return replace(state, baselines=tuple(means), baseline_counts=tuple(counts))


def _task_index(task: str) -> int:
    return TASKS.index(task) if task in TASKS else len(TASKS)


def _arrays(parameters: Parameters) -> tuple[policy.Vector, ...]:
    return (
        parameters.task_bias,
        parameters.w1,
        parameters.b1,
        parameters.w2,
        parameters.b2,
    )


def _scaled(parameters: Parameters, scale: float) -> Parameters:
    return Parameters(*(scale * array for array in _arrays(parameters)))
