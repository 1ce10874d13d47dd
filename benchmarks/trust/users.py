"""Simulated users, some of whom lie, in front of the product's own learner.

Three kinds of requests with mean rewards in [0, 1] by temperature, behind top-n-sigma: those
of the prompts that the study held out (docs/control-study.md), so that the shipped prior, which
was made from its other prompts, meets what it would meet. How single rewards scatter is an
assumption: facts are right or wrong, the others follow a beta distribution with a
standard deviation of 0.2. A reward r is feedback of quality 2 r - 1.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.policy.families import FAMILIES
from benchmarks.policy.matrix import Matrix, parts
from services.controller.decisions.decision import Observation
from services.controller.decisions.experience import Experience
from services.controller.decisions.records import LoggedDecision
from services.controller.learning import lesson as learning
from services.controller.learning.lesson import LearnerState
from services.controller.policies import bandit
from services.controller.policies.gaussian import NEUTRAL
from services.controller.policies.policy import PolicySnapshot
from thermesh.features import INDEX, TASKS

MATRIX = pathlib.Path(__file__).resolve().parents[1] / "results" / "policy-matrix.npz"
FAMILY_OF = {"question_answering": "facts", "chat": "lists", "generation": "stories"}
ACTS_AS = tuple(FAMILY_OF)
TEMPERATURES = (0.1, 0.25, 0.4, 0.6, 0.8, 1.0, 1.2)


def measured() -> NDArray[np.float64]:
    """Return the mean reward [tasks, temperatures] of the study's held-out prompts."""
    matrix = Matrix.load(MATRIX)
    arms = [matrix.arms.index(f"top_n_sigma {each}") for each in TEMPERATURES]
    places = {family.name: index for index, family in enumerate(FAMILIES)}
    _, held_out = parts(matrix.quality)
    chosen = [held_out[places[family]][..., arms, 0] for family in FAMILY_OF.values()]
    return np.array([np.nanmean(each, axis=(0, 1)) for each in chosen], dtype=np.float64)


MEANS = measured()
BEST_STATIC = int(MEANS.mean(axis=0).argmax())
_DEVIATION = 0.2
_CERTAINTY = 0.9


def newborn() -> bandit.Parameters:
    """Return the beliefs that a new installation begins with, over the measured grid."""
    return bandit.prior(bandit.grid(TEMPERATURES))


def features(task: int) -> tuple[float, ...]:
    """Return features of a request that the classifier is rather sure of."""
    values = NEUTRAL.copy()
    for each in TASKS:
        values[INDEX[f"task_{each}"]] = (1.0 - _CERTAINTY) / (len(TASKS) - 1)
    values[INDEX[f"task_{ACTS_AS[task]}"]] = _CERTAINTY
    return tuple(values.tolist())


_FEATURES = tuple(features(task) for task in range(len(MEANS)))


def drawn(task: int, temperature: float, generator: np.random.Generator) -> float:
    """Return one reward in [0, 1]."""
    mean = mean_of(task, temperature)
    spread = mean * (1.0 - mean) / _DEVIATION**2 - 1.0
    if task == 0 or spread <= 0.0:
        return float(generator.random() < mean)
    return float(generator.beta(mean * spread, (1.0 - mean) * spread))


def mean_of(task: int, temperature: float) -> float:
    """Return the mean reward in [0, 1], linear between what was measured."""
    return float(np.interp(temperature, TEMPERATURES, MEANS[task]))


def decided(snapshot: PolicySnapshot, task: int, generator: np.random.Generator) -> LoggedDecision:
    """Return one draw of the product's own policy, as the learner reads it."""
    lower, upper = TEMPERATURES[0], TEMPERATURES[-1]
    observed = Observation(np.array(_FEATURES[task]), ACTS_AS[task])
    draw = snapshot.draw(observed.features, observed.task, lower, upper, generator)
    return LoggedDecision(
        decision_id="",
        traceparent="",
        task=ACTS_AS[task],
        features=_FEATURES[task],
        lower=lower,
        upper=upper,
        quality_weight=1.0,
        latency_weight=0.0,
        explored=True,
        policy_temperature=draw.temperature,
        log_density=draw.log_density,
        propensity=draw.propensity,
        policy_version=snapshot.version,
    )


@dataclass(frozen=True)
class Lived:
    """One request: the state after it, and its true mean reward above the best static's."""

    state: LearnerState
    gain: float


def lived(
    state: LearnerState, generator: np.random.Generator, flipped: float, tenant: str = "default"
) -> Lived:
    """Decide one request, judge it, with chance `flipped` the wrong way round, and learn."""
    task = int(generator.integers(len(MEANS)))
    snapshot = PolicySnapshot(1, state.parameters, state.feedback_count)
    logged = decided(snapshot, task, generator)
    quality = 2.0 * drawn(task, logged.policy_temperature, generator) - 1.0
    if generator.random() < flipped:
        quality = -quality
    learned = learning.apply(state, Experience(logged, quality, 0.0, tenant=tenant))
    gain = mean_of(task, logged.policy_temperature) - float(MEANS[task, BEST_STATIC])
    return Lived(learned, gain)
