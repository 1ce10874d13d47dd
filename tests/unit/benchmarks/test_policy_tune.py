"""Tuning goes on where it was left, and what it writes is what a controller reads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.policy import tune
from benchmarks.policy.arms import ARMS
from benchmarks.policy.families import FAMILIES, PROMPTS
from benchmarks.policy.matrix import CAP_SHARES, Matrix
from services.controller.policies import bandit, statics
from services.controller.policies.statics import Statics


@pytest.fixture
def matrix():
    """Rewards without a gap in which each family has a best arm of its own."""
    draw = np.random.default_rng(1)
    shape = (len(FAMILIES), PROMPTS, 1, len(ARMS), len(CAP_SHARES))
    best = np.arange(len(FAMILIES))[:, None] == np.arange(len(ARMS)) % len(FAMILIES)
    quality = (draw.random(shape) * 0.5 + 0.5 * best[:, None, None, :, None]).astype(np.float32)
    nothing = np.zeros(shape, np.float32)
    names = tuple(arm.name for arm in ARMS)
    return Matrix(names, quality, nothing, nothing, nothing, nothing, {})


@pytest.fixture
def quick(monkeypatch):
    """Short replays: the figures are not looked at."""
    monkeypatch.setattr(tune, "FEEDBACKS", 30)


@pytest.mark.usefixtures("quick")
def test_tuning_goes_on_where_it_was_left(matrix, tmp_path):
    """The storage keeps every trial; the defaults are the first."""
    told = []
    tune.tuned(matrix, 2, tmp_path / "journal", told.append)
    found = tune.tuned(matrix, 3, tmp_path / "journal", told.append)

    assert [line.partition(":")[0] for line in told] == ["trial 1/2", "trial 2/2", "trial 3/3"]
    assert found["trials"] == 3
    assert found["tuning_value"] >= found["tuning_value_of_defaults"]
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps(found))
    assert statics.read(path) == Statics(**found["statics"])


@pytest.mark.usefixtures("quick")
def test_the_defaults_gain_nothing_over_themselves(matrix):
    """The comparison is paired: the same seeds meet the same requests."""
    found = tune.compared(Statics(), tune.halves(matrix))

    assert (found["gain"], found["lower"], found["upper"]) == (0.0, 0.0, 0.0)


def test_no_prior_has_seen_the_prompts_it_is_judged_by(matrix):
    """Each half of the train prompts has the other half's prior."""
    (even, of_odd), (odd, of_even) = tune.halves(matrix)
    for world, own, other in ((even, of_even, of_odd), (odd, of_odd, of_even)):
        losses = 2.0 * (world.means - world.means.max(axis=1, keepdims=True))
        assert own == pytest.approx(losses, abs=1e-6)
        assert np.abs(other - losses).max() > 1e-3


def test_the_defaults_are_inside_the_space():
    """The first trial proposes exactly what the package has."""

    class Trial:
        def suggest_float(self, name, low, high, *, log=False):
            del log
            value = tune.proposed(Statics())[name]
            assert low <= value <= high
            return value

    found = tune.space(Trial())
    assert vars_of(found) == pytest.approx(vars_of(Statics()))


def vars_of(value):
    """The members of a Statics."""
    return {name: getattr(value, name) for name in Statics.__slots__}


def test_the_product_learns_by_the_statics_it_is_given():
    """What the replay tunes is what decides: the same beliefs, number by number."""
    given = Statics(caution=0.9, first_strength=9.0, last_strength=3.0, half_life=20.0)
    parameters = bandit.prior(shape_weight=1.0, statics=given)
    for reward in (0.2, -0.4, 0.9):
        parameters = bandit.updated(parameters, 0, parameters.actions[2], reward)
    shape = bandit._shapes(parameters.actions)[[0]]
    learner = tune.Thompson(1, 1, parameters.actions, shape, given)
    for reward in (0.2, -0.4, 0.9):
        learner.learn(np.array([0]), np.array([2]), np.array([(reward + 1) / 2]))
    mean, spread, _ = learner.normals(np.array([0]))
    expected = bandit.beliefs(parameters, 0)

    assert (mean[0], spread[0]) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
