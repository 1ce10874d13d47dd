"""Bayesian optimisation of the grid policy's static parameters, offline.

    thermesh bench policy tune --trials 60     # again to go on: the storage keeps every trial

Each trial replays the learner twice on one half of the train prompts, with a prior made from
the other half, and the other way round: a new installation that learns, and one whose
rewards move midway. Optuna's TPE (Bergstra et al. 2011) proposes `Statics`; the defaults are
its first trial. What it chose is then compared with the defaults on other seeds, and on the
held-out prompts that no trial has seen.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.policy.arms import STATIC, TEMPERATURES
from benchmarks.policy.families import TRAIN
from benchmarks.policy.judging import task_means
from benchmarks.policy.learners import Thompson, World, replay, world
from benchmarks.policy.matrix import Matrix
from services.controller.policies import bandit
from services.controller.policies.statics import Statics

Floats = NDArray[Any]

SEEDS, OTHER_SEEDS = 8, 20
FEEDBACKS = 1500
RESAMPLES = 4000
_ACTIONS = bandit.grid(TEMPERATURES)
_TUNING_SEED, _JUDGING_SEED = 99, 1234


def space(trial: Any) -> Statics:
    """Return what a trial proposes."""
    last = trial.suggest_float("last_strength", 0.5, 16.0, log=True)
    return Statics(
        caution=trial.suggest_float("caution", 0.1, 1.5),
        first_strength=last + trial.suggest_float("further_strength", 0.0, 60.0),
        last_strength=last,
        half_life=trial.suggest_float("half_life", 5.0, 500.0, log=True),
        fading=1.0 - trial.suggest_float("forgotten", 1e-5, 5e-3, log=True),
        alarm=trial.suggest_float("alarm", 4.0, 30.0),
        kinship=trial.suggest_float("kinship", 0.0, 0.99),
    )


def proposed(statics: Statics) -> dict[str, float]:
    """Return the parameters of a trial that proposes `statics`."""
    return {
        "last_strength": statics.last_strength,
        "caution": statics.caution,
        "further_strength": statics.first_strength - statics.last_strength,
        "half_life": statics.half_life,
        "forgotten": 1.0 - statics.fading,
        "alarm": statics.alarm,
        "kinship": statics.kinship,
    }


def tuned(
    matrix: Matrix, trials: int, storage: pathlib.Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Go on until there are `trials`, and return the best with what it is worth."""
    study = _study(storage)
    left = trials - len(study.trials)
    if not study.trials:
        study.enqueue_trial(proposed(Statics()))
    folds = halves(matrix)
    study.optimize(
        lambda trial: value(space(trial), folds, SEEDS, _TUNING_SEED),
        n_trials=max(0, left),
        callbacks=[lambda _, trial: tell(f"trial {trial.number + 1}/{trials}: {trial.value:.4f}")],
    )
    best = space(study.best_trial)
    return {
        "trials": len(study.trials),
        "tuning_value": study.best_value,
        "tuning_value_of_defaults": study.trials[0].value,
        "statics": asdict(best),
        "defaults": asdict(Statics()),
        "other_seeds": compared(best, folds),
        "held_out_prompts": compared(best, [held_out(matrix)]),
    }


def _study(storage: pathlib.Path) -> Any:
    import optuna  # noqa: PLC0415  # an extra
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    kept = optuna.storages.JournalStorage(JournalFileBackend(str(storage)))
    study = optuna.create_study(
        study_name="statics", storage=kept, direction="maximize", load_if_exists=True
    )
    # a sampler that began anew with the same seed would propose what it did before
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    return study


Fold = tuple[World, Floats]
"""A world to learn in, and the prior of a new installation in it."""


def halves(matrix: Matrix) -> list[Fold]:
    """Return each half of the train prompts as a world, with the other half's prior."""
    rewards = _temperatures(matrix)[:, :TRAIN]
    even, odd = rewards[:, ::2], rewards[:, 1::2]
    return [(world(even), shape(odd)), (world(odd), shape(even))]


def held_out(matrix: Matrix) -> Fold:
    """Return the held-out prompts as a world, with the prior of all train prompts."""
    rewards = _temperatures(matrix)
    return world(rewards[:, TRAIN:]), shape(rewards[:, :TRAIN])


def _temperatures(matrix: Matrix) -> Floats:
    plain = [place for place, arm in enumerate(STATIC) if arm.guard == "top_n_sigma"]
    return np.asarray(matrix.reward[..., plain, 0])


def shape(rewards: Floats) -> Floats:
    """Return what each action lost to the best of its task, as feedback: [tasks, actions]."""
    means = task_means(rewards)
    return np.asarray(2.0 * (means - means.max(axis=1, keepdims=True)))


def value(statics: Statics, folds: list[Fold], seeds: int, seed: int) -> float:
    """Return the mean reward over folds, seeds and both runs."""
    return float(np.mean([earned(statics, fold, seeds, seed) for fold in folds]))


def earned(statics: Statics, fold: Fold, seeds: int, seed: int) -> Floats:
    """Return what each seed earned, [seeds]: as a new installation, and where rewards move."""
    still, prior = fold
    moved = World(np.roll(still.table, 1, axis=0))

    def at(step: int, then: World) -> World:
        return still if 2 * step < FEEDBACKS else then

    runs = []
    for then in (still, moved):
        learner = Thompson(seeds, len(prior), _ACTIONS, prior, statics)
        run = replay(learner, partial(at, then=then), seeds, FEEDBACKS, seed=seed)
        runs.append(run.mean(axis=1))
    return np.asarray(np.mean(runs, axis=0))


def compared(best: Statics, folds: list[Fold]) -> dict[str, float]:
    """Return what `best` earns more than the defaults on other seeds, paired, with the 95 %
    interval of the mean over seeds.
    """
    both = [
        np.mean([earned(each, fold, OTHER_SEEDS, _JUDGING_SEED) for fold in folds], axis=0)
        for each in (best, Statics())
    ]
    gains = both[0] - both[1]
    draw = np.random.default_rng(0)
    means = gains[draw.integers(0, len(gains), (RESAMPLES, len(gains)))].mean(axis=1)
    lower, upper = np.percentile(means, [2.5, 97.5])
    return {
        "tuned": float(both[0].mean()),
        "defaults": float(both[1].mean()),
        "gain": float(gains.mean()),
        "lower": float(lower),
        "upper": float(upper),
        "seeds": OTHER_SEEDS,
    }
