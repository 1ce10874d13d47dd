"""One step of learning: an experience in, a slightly better policy out.

The guardrail looks at the reward first; then the kind of the policy says how to
learn. A bandit takes the reward into its beliefs (`bandit`). The squashed
Gaussian takes a step of REINFORCE (Williams 1992) with a running baseline for
each task. The temperature was drawn by an older version, so each gradient is
weighted by how much more likely the current one is to draw it, clipped:

    w        = min(q_now(T) / q_logged(T), 3)
    gradient = w * (R - baseline[task]) * (z - mu) / sigma^2 * d mu / d parameters

and it repeats some of what it learned before (`replay`), with the elastic anchor
pulling back (`elastic`). How much one piece of feedback may do is scaled by the
trust in its signal and the influence of its tenant.

Everything is float64 and a function of its arguments: the same experiences in
the same order give the same state bit for bit, which is what makes feedback
count exactly once through any number of crashes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from services.controller.decisions.experience import Experience, reward
from services.controller.decisions.records import LoggedDecision
from services.controller.learning import influence
from services.controller.learning.replay import Buffer
from services.controller.policies import bandit, gaussian
from services.controller.policies.bandit import context_of
from services.controller.policies.caution import cautious
from services.controller.policies.elastic import Elastic
from services.controller.policies.policy import Parameters
from services.controller.trust.guardrail import Guardrail, Sighting, Verdict, place_of
from services.controller.trust.rollout import Rollout, Stage
from thermesh.features import TASKS

# The abstaining classifier has a baseline of its own, after those of the tasks.
_BASELINES = len(TASKS) + 1

LEARNING_RATE = 0.02
MAXIMUM_GRADIENT_NORM = 1.0
MAXIMUM_IMPORTANCE_WEIGHT = 3.0
REPLAYS = 2
"""How many old experiences are repeated with each new one."""

DEFERRED_LIMIT = 50
"""How much is put aside at most, the newest: while suspicion hovers, feedback says as little as
it would if half of it were turned round, and nothing of it is learned before that is settled."""

# The baseline is a mean at first and then follows with this rate, so that it
# forgets rewards of policies long gone.
SLOWEST_BASELINE_RATE = 0.02


@dataclass(frozen=True, slots=True)
class Memory:
    """What learning keeps beside the policy; part of the checkpoint.

    `deferred` is feedback put aside while the guardrail suspects an attack.
    """

    replay: Buffer = field(default_factory=Buffer)
    elastic: Elastic = field(default_factory=Elastic)
    tenants: Mapping[str, float] = field(default_factory=dict)
    guardrail: Guardrail = field(default_factory=Guardrail)
    deferred: tuple[Experience, ...] = ()

    def to_lists(self) -> dict[str, Any]:
        """Return the stored form."""
        return {
            "replay": self.replay.to_lists(),
            "elastic": self.elastic.to_lists(),
            "tenants": dict(self.tenants),
            "guardrail": self.guardrail.to_lists(),
            "deferred": [each.to_lists() for each in self.deferred],
        }

    @classmethod
    def from_lists(cls, stored: dict[str, Any]) -> Memory:
        """Undo `to_lists`."""
        return cls(
            Buffer.from_lists(stored["replay"]),
            Elastic.from_lists(stored["elastic"]),
            stored["tenants"],
            Guardrail.from_lists(stored["guardrail"]),
            tuple(Experience.from_lists(each) for each in stored.get("deferred", ())),
        )


@dataclass(frozen=True, slots=True)
class LearnerState:
    """What learning goes on from: parameters, a mean reward for each task, memory, and the
    running trial with the parameters of its candidate, if there is one.
    """

    parameters: Parameters
    feedback_count: int = 0
    baselines: tuple[float, ...] = (0.0,) * _BASELINES
    baseline_counts: tuple[int, ...] = (0,) * _BASELINES
    memory: Memory = field(default_factory=Memory)
    rollout: Rollout | None = None
    candidate: Parameters | None = None


def apply(state: LearnerState, experience: Experience) -> LearnerState:
    """Learn from one experience.

    A temperature that the policy did not draw (pinned, static) moves nothing
    but the count: its reward is not that of the policy's choice.
    """
    counted = replace(state, feedback_count=state.feedback_count + 1)
    if not experience.decision.explored:
        return counted
    tenants, influenced = influence.heard(state.memory.tenants, experience.tenant)
    weight = 0.0 if experience.contradicted else experience.trust * influenced
    weighed = replace(experience, trust=weight)
    before = state.memory.guardrail
    guardrail, verdict = before.watch(_sighting(experience))
    memory = replace(state.memory, tenants=tenants, guardrail=guardrail)
    counted = replace(counted, memory=memory)
    if verdict is Verdict.HOLD:
        released = before.held > 0 and guardrail.held == 0
        return _gone_back(counted, cautiously=False) if released else counted
    if verdict is Verdict.ROLL_BACK:
        return _gone_back(counted, cautiously=True)
    deferred = (*memory.deferred, weighed)
    if verdict is Verdict.DEFER:
        return replace(counted, memory=replace(memory, deferred=deferred[-DEFERRED_LIMIT:]))
    counted = replace(counted, memory=replace(memory, deferred=()))
    for each in deferred:
        counted = _learned(counted, each)
    return counted


def _gone_back(state: LearnerState, cautiously: bool) -> LearnerState:
    """Return the state on the last good parameters; what was put aside is dropped."""
    memory = replace(state.memory, deferred=())
    pinned = memory.guardrail.pinned or state.parameters
    return replace(state, parameters=cautious(pinned) if cautiously else pinned, memory=memory)


def _learned(state: LearnerState, experience: Experience) -> LearnerState:
    """Learn from an experience whose trust holds all that weighs it."""
    guardrail = state.memory.guardrail.followed(_sighting(experience), state.parameters)
    state = replace(state, memory=replace(state.memory, guardrail=guardrail))
    gained, weight = reward(experience), experience.trust
    state = _judged(state, experience.decision, gained)
    if isinstance(state.parameters, bandit.Parameters):
        learned = _believed(state, state.parameters, experience, gained, weight)
    else:
        learned = _climbed(state, state.parameters, experience, gained, weight)
    return _with_baseline(learned, context_of(experience.decision.task), gained)


def _judged(state: LearnerState, decision: LoggedDecision, gained: float) -> LearnerState:
    """Take up a reward of the running trial; a candidate that won becomes the policy."""
    rollout, trial = state.rollout, decision.trial
    if rollout is None or trial is None or trial.number != rollout.number:
        return state
    if not rollout.stage.is_running:
        return state
    task = context_of(decision.task)
    centred = gained - state.baselines[task]
    rollout = rollout.judged(task, trial.by_candidate, trial.weight, centred, trial.agreed)
    state = replace(state, rollout=rollout)
    if rollout.stage is not Stage.PROMOTED or state.candidate is None:
        return state
    memory = replace(state.memory, guardrail=Guardrail())
    return replace(state, parameters=state.candidate, memory=memory)


def _sighting(experience: Experience) -> Sighting:
    decision = experience.decision
    place = place_of(context_of(decision.task), decision.policy_temperature)
    return Sighting(reward(experience), place, experience.tenant, experience.broken)


def _believed(
    state: LearnerState,
    parameters: bandit.Parameters,
    experience: Experience,
    gained: float,
    weight: float,
) -> LearnerState:
    decision = experience.decision
    context = context_of(decision.task)
    learned = bandit.updated(parameters, context, decision.action, gained, weight)
    return replace(state, parameters=learned)


def _climbed(
    state: LearnerState,
    parameters: gaussian.Parameters,
    experience: Experience,
    gained: float,
    weight: float,
) -> LearnerState:
    decision, memory = experience.decision, state.memory
    task = context_of(decision.task)
    if decision.propensity > 0.0:
        return state  # drawn from a grid by another kind: it has no density
    before = replace(state, feedback_count=state.feedback_count - 1)
    advantage = weight * (gained - state.baselines[task])
    climbed = _ascended(before, parameters, decision, advantage)
    for old in memory.replay.drawn(state.feedback_count, REPLAYS):
        miss = old.trust * (reward(old) - state.baselines[context_of(old.decision.task)])
        climbed = _ascended(replace(before, parameters=climbed), climbed, old.decision, miss)
    climbed = memory.elastic.pulled(climbed, LEARNING_RATE)
    squares = _squared(gradient(before, decision, 1.0))
    remembered = replace(
        memory,
        replay=memory.replay.with_one(experience, state.feedback_count),
        elastic=memory.elastic.observed(climbed, squares, task),
    )
    return replace(state, parameters=climbed, memory=remembered)


def gradient(
    state: LearnerState, decision: LoggedDecision, advantage: float
) -> gaussian.Parameters:
    """Return the clipped-weight policy gradient, before the clipping of its norm.

    `state` holds a squashed Gaussian.
    """
    assert isinstance(state.parameters, gaussian.Parameters)
    features = np.array(decision.features)
    evaluated = gaussian.forward(state.parameters, features)
    density = gaussian.distribution(
        state.parameters, state.feedback_count, features, decision.lower, decision.upper
    )
    z = density.z_of(decision.policy_temperature)
    ratio = min(density.log_density_at(z) - decision.log_density, _LOG_MAXIMUM_WEIGHT)
    score = (z - density.mean) / density.sigma**2
    scale = math.exp(ratio) * advantage * score
    slope = gaussian.gradient_of_mean(state.parameters, evaluated)
    return gaussian.Parameters(*(scale * array for array in slope.arrays()))


_LOG_MAXIMUM_WEIGHT = math.log(MAXIMUM_IMPORTANCE_WEIGHT)


def _ascended(
    state: LearnerState,
    parameters: gaussian.Parameters,
    decision: LoggedDecision,
    advantage: float,
) -> gaussian.Parameters:
    ascent = gradient(state, decision, advantage)
    norm = math.sqrt(sum(float(np.sum(array * array)) for array in ascent.arrays()))
    step = LEARNING_RATE * min(1.0, MAXIMUM_GRADIENT_NORM / norm) if norm > 0.0 else 0.0
    pairs = zip(parameters.arrays(), ascent.arrays(), strict=True)
    return gaussian.Parameters(*(array + step * delta for array, delta in pairs))


def _squared(parameters: gaussian.Parameters) -> gaussian.Parameters:
    return gaussian.Parameters(*(array * array for array in parameters.arrays()))


def _with_baseline(state: LearnerState, task: int, gained: float) -> LearnerState:
    count = state.baseline_counts[task] + 1
    rate = max(1.0 / count, SLOWEST_BASELINE_RATE)
    means, counts = list(state.baselines), list(state.baseline_counts)
    means[task] += rate * (gained - means[task])
    counts[task] = count
    return replace(state, baselines=tuple(means), baseline_counts=tuple(counts))
