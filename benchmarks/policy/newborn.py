# ruff: noqa: SLF001  # reads the shape of the prior where the product keeps it
"""What a new installation should begin with, on prompts that no prior has seen.

Every policy meets the held-out prompts as a stream and learns from the verifiers. The
squashed Gaussian and its warm start run the product's own learner, one seed after another;
temperatures between two levels of the matrix take one of the two by their nearness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.policy.arms import TEMPERATURES
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.learners import LinUcb, Thompson, Tuning, World, replay
from services.controller.decisions.experience import Experience
from services.controller.decisions.records import LoggedDecision
from services.controller.learning import lesson as learning
from services.controller.learning.lesson import LearnerState
from services.controller.policies import bandit, gaussian
from services.controller.policies.gaussian import NEUTRAL
from services.controller.policies.policy import Parameters, PolicySnapshot
from services.controller.policies.warmstart import warm_started
from thermesh.features import INDEX, TASKS

Floats = NDArray[Any]

COUNT = 2000
WARM_AFTER = 1000
_RANGE = (TEMPERATURES[0], TEMPERATURES[-1])
_CERTAINTY = 0.9
_ACTIONS = bandit.grid(TEMPERATURES)


def shape() -> Floats:
    """Return what the shipped prior expects, [families, temperatures] behind top-n-sigma."""
    rows = bandit._shapes(_ACTIONS)
    return np.asarray(rows[[bandit.context_of(family.task) for family in FAMILIES]])


def grid_run(
    kind: type[Thompson], world: World, seeds: int, prior: Floats | None, count: int = COUNT
) -> Floats:
    """Return what a learner over temperatures earns, [seeds, count]."""
    learner = kind(seeds, len(FAMILIES), _ACTIONS, prior, Tuning())
    return replay(learner, lambda _: world, seeds, count)


def gaussian_run(world: World, seed: int, begin: LearnerState, count: int = COUNT) -> Floats:
    """Return what the product's squashed Gaussian earns in one run, [count]."""
    generator, state, earned = np.random.default_rng(seed), begin, np.zeros(count)
    for step in range(count):
        task = int(generator.integers(len(FAMILIES)))
        state, earned[step] = lived(world, state, task, generator)
    return earned


def lived(
    world: World, state: LearnerState, task: int, generator: np.random.Generator
) -> tuple[LearnerState, float]:
    """Decide one request by the squashed Gaussian and learn from it; also return what it earned."""
    row = int(generator.integers(world.table.shape[1]))
    logged = decided(state.parameters, state.feedback_count, task, generator)
    reward, mean = earned(world, task, row, logged.policy_temperature, generator)
    return learning.apply(state, Experience(logged, 2.0 * reward - 1.0, 0.0)), mean


def warm_state(world: World, seed: int) -> LearnerState:
    """Return a Gaussian that begins where a bandit is after WARM_AFTER pieces of feedback."""
    learner = Thompson(1, len(FAMILIES), _ACTIONS, shape(), Tuning())
    replay(learner, lambda _: world, 1, WARM_AFTER, seed=seed)
    now, places = learner.beliefs, [bandit.context_of(family.task) for family in FAMILIES]
    arrays = {}
    for name in ("counts", "sums", "squares", "seen", "surprise"):
        found = getattr(now, name)[0]
        full = np.zeros((bandit.CONTEXTS, *found.shape[1:]))
        full[places] = found
        arrays[name] = full
    learned = bandit.Parameters(_ACTIONS, **arrays)
    return LearnerState(warm_started(learned), feedback_count=WARM_AFTER)


def rows(train: World, held_out: World, seeds: int) -> dict[str, Any]:
    """Return the curves of every beginning, and their means."""
    few = min(seeds, 10)
    born = [gaussian_run(held_out, seed, LearnerState(gaussian.prior())) for seed in range(few)]
    warm = [gaussian_run(held_out, seed, warm_state(train, seed)) for seed in range(few)]
    curves = {
        "Thompson, shipped prior": grid_run(Thompson, held_out, seeds, shape()),
        "Thompson, no prior": grid_run(Thompson, held_out, seeds, None),
        "LinUCB, shipped prior": grid_run(LinUcb, held_out, seeds, shape()),
        "squashed Gaussian": np.array(born),
        "squashed Gaussian, warm start": np.array(warm),
    }
    return {
        "best_static": held_out.best_static,
        "best_by_task": held_out.best_by_task,
        "policies": {name: _summary(curve) for name, curve in curves.items()},
    }


def _summary(curve: Floats) -> dict[str, Any]:
    first, last = curve[:, :500].mean(axis=1), curve[:, -500:].mean(axis=1)
    root = np.sqrt(len(curve))
    return {
        "first_500": float(first.mean()),
        "first_500_error": float(first.std(ddof=1) / root),
        "last_500": float(last.mean()),
        "last_500_error": float(last.std(ddof=1) / root),
        "curve": [float(each) for each in curve.mean(axis=0).reshape(-1, 100).mean(axis=1)],
    }


def _features(task: str) -> Floats:
    found = NEUTRAL.copy()
    for each in TASKS:
        found[INDEX[f"task_{each}"]] = (1.0 - _CERTAINTY) / (len(TASKS) - 1)
    found[INDEX[f"task_{task}"]] = _CERTAINTY
    return found


_FEATURES = tuple(_features(family.task) for family in FAMILIES)


def decided(
    parameters: Parameters, count: int, task: int, generator: np.random.Generator
) -> LoggedDecision:
    """Draw a temperature for one request of a task, after `count` pieces of feedback."""
    lower, upper = _RANGE
    draw = PolicySnapshot(1, parameters, count).draw(
        _FEATURES[task], FAMILIES[task].task, lower, upper, generator
    )
    return LoggedDecision(
        decision_id="",
        traceparent="",
        task=FAMILIES[task].task,
        features=tuple(_FEATURES[task].tolist()),
        lower=lower,
        upper=upper,
        quality_weight=1.0,
        latency_weight=0.0,
        explored=True,
        policy_temperature=draw.temperature,
        log_density=draw.log_density,
        propensity=draw.propensity,
    )


def earned(
    world: World, task: int, row: int, temperature: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return (the reward of a row at the nearest level, drawn by nearness; the mean there)."""
    place = float(np.interp(temperature, TEMPERATURES, range(len(TEMPERATURES))))
    level = min(int(place) + (generator.random() < place % 1.0), len(TEMPERATURES) - 1)
    return float(world.table[task, row, level]), mean_at(world, task, temperature)


def mean_at(world: World, task: int, temperature: float) -> float:
    """Return the mean reward of a task at a temperature, between two levels by nearness."""
    return float(np.interp(temperature, TEMPERATURES, world.means[task]))
