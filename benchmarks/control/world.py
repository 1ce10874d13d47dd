"""The simulated users: a stored matrix of mean rewards, and noise around it.

The noise is an assumption, stated here and on the page: a task judged right or
wrong earns 1 or 0 with the stored mean as probability; the others draw from a
beta distribution with the stored mean and a standard deviation of 0.2 (right or
wrong again where a mean leaves no room for that). Between the measured
temperatures means are interpolated linearly; beyond them they are constant.
A reward r in [0, 1] is given to the learner as feedback of quality 2 r - 1.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.controller import bandit, learning
from services.controller.decision import Observation
from services.controller.experience import Experience
from services.controller.gaussian import NEUTRAL
from services.controller.learning import LearnerState
from services.controller.policy import Parameters, PolicySnapshot
from services.controller.records import LoggedDecision
from thermesh.features import INDEX, TASKS

MATRIX = json.loads((pathlib.Path(__file__).parent / "matrix.json").read_text())
TEMPERATURES = tuple(MATRIX["temperatures"])
NAMES = tuple(task["name"] for task in MATRIX["tasks"])
ACTS_AS = tuple(task["acts_as"] for task in MATRIX["tasks"])
_BERNOULLI = tuple(task["noise"] == "bernoulli" for task in MATRIX["tasks"])
_CERTAINTY = 0.9

# All tasks in one range, as the matrix was measured; the envelopes of the
# product would keep each learner from most of what is wrong.
_RANGE = (TEMPERATURES[0], TEMPERATURES[-1])


@dataclass(frozen=True)
class World:
    """Mean rewards [tasks, temperatures] and how they are drawn."""

    means: NDArray[np.float64]

    def mean(self, task: int, temperature: float) -> float:
        """Return the mean reward in [0, 1]."""
        return float(np.interp(temperature, TEMPERATURES, self.means[task]))

    def draw(self, task: int, temperature: float, generator: np.random.Generator) -> float:
        """Return one reward in [0, 1]."""
        mean = self.mean(task, temperature)
        spread = mean * (1.0 - mean) / MATRIX["beta_deviation"] ** 2 - 1.0
        if _BERNOULLI[task] or spread <= 0.0:
            return float(generator.random() < mean)
        return float(generator.beta(mean * spread, (1.0 - mean) * spread))

    @property
    def best_static(self) -> float:
        """Mean reward of the one temperature that is best for all tasks, in hindsight."""
        return float(self.means.mean(axis=0).max())

    @property
    def best_by_task(self) -> float:
        """Mean reward of the best temperature of each task, in hindsight."""
        return float(self.means.max(axis=1).mean())


MEASURED = World(np.array([task["means"] for task in MATRIX["tasks"]]))


def moved() -> World:
    """Return the world with facts and stories exchanged and lists best one level warmer."""
    facts, lists, stories = MEASURED.means
    return World(np.array([stories, np.r_[lists[0], lists[:-1]], facts]))


def newborn(shape_weight: float) -> bandit.Parameters:
    """Return a bandit over the measured temperatures; `shape_weight` 0 knows nothing."""
    return bandit.prior(bandit.grid(TEMPERATURES), shape_weight)


def observed(task: int) -> Observation:
    """Return the features of a request that the classifier is rather sure of."""
    features = NEUTRAL.copy()
    for each in TASKS:
        features[INDEX[f"task_{each}"]] = (1.0 - _CERTAINTY) / (len(TASKS) - 1)
    features[INDEX[f"task_{ACTS_AS[task]}"]] = _CERTAINTY
    return Observation(features, ACTS_AS[task])


_OBSERVED = tuple(observed(task) for task in range(len(NAMES)))
_FEATURES = tuple(tuple(each.features.tolist()) for each in _OBSERVED)


def decided(
    parameters: Parameters, count: int, task: int, generator: np.random.Generator
) -> LoggedDecision:
    """Return one draw of the product's own policy, as the learner reads it.

    Latency is left out of the reward: the matrix has no times.
    """
    seen, (lower, upper) = _OBSERVED[task], _RANGE
    snapshot = PolicySnapshot(1, parameters, count)
    draw = snapshot.draw(seen.features, seen.task, lower, upper, generator)
    return LoggedDecision(
        decision_id="",
        traceparent="",
        task=seen.task,
        features=_FEATURES[task],
        lower=lower,
        upper=upper,
        quality_weight=1.0,
        latency_weight=0.0,
        explored=True,
        policy_temperature=draw.temperature,
        log_density=draw.log_density,
        propensity=draw.propensity,
    )


def step(
    state: LearnerState,
    world: World,
    task: int,
    generator: np.random.Generator,
    flipped: float = 0.0,
) -> tuple[LearnerState, float]:
    """Decide, judge and learn once; returns the state and the true mean reward."""
    logged = decided(state.parameters, state.feedback_count, task, generator)
    quality = 2.0 * world.draw(task, logged.policy_temperature, generator) - 1.0
    if generator.random() < flipped:
        quality = -quality
    return (
        learning.apply(state, Experience(logged, quality, 0.0)),
        world.mean(task, logged.policy_temperature),
    )
