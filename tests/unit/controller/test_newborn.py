"""The settings of a new installation: the kind of policy and its grid."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from services.controller.config import PolicyConfig
from services.controller.newborn import newborn
from services.controller.policies import bandit, gaussian
from services.controller.policies.actions import Action
from services.controller.policies.statics import Statics, applied
from services.controller.policies.warmstart import convert, warm_started
from thermesh.settings import BadSetting


def test_the_default_grid_is_one_of_temperatures():
    """One guard, the whole cap, the full model."""
    actions = newborn(PolicyConfig("thompson")).actions
    assert actions[0] == Action(0.1, "top_n_sigma", 1.0, "standard")
    assert len(actions) == 7


def test_every_combination_of_the_settings_is_an_action():
    """Temperature x guard x token cap x path."""
    config = PolicyConfig("thompson", "0.2, 0.8", "none,min_p", "0.5,1.0", "light,standard")
    actions = newborn(config).actions
    assert len(actions) == 16
    assert Action(0.8, "min_p", 0.5, "light") in actions


def test_a_gaussian_has_no_grid():
    """Its prior is the packaged one."""
    config = PolicyConfig(policy_kind="squashed_gaussian")
    assert newborn(config) == gaussian.prior()


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"grid_temperatures": "0.1,3"}, "THERMESH_GRID_TEMPERATURES"),
        ({"grid_temperatures": "0.1,warm"}, "THERMESH_GRID_TEMPERATURES"),
        ({"grid_temperatures": "0.1,0.1"}, "THERMESH_GRID_TEMPERATURES"),
        ({"grid_guards": "moat"}, "THERMESH_GRID_GUARDS"),
        ({"grid_cap_shares": "0"}, "THERMESH_GRID_CAP_SHARES"),
        ({"grid_paths": "short"}, "THERMESH_GRID_PATHS"),
        ({"grid_temperatures": ",".join(f"0.{n}" for n in range(10, 99))}, "THERMESH_GRID"),
    ],
)
def test_a_setting_that_cannot_be_read_stops_the_process(change, variable):
    """With a message that names it."""
    with pytest.raises(BadSetting, match=variable):
        newborn(PolicyConfig(**change))


def test_a_bandits_parameters_become_a_warm_gaussian_by_command():
    """What `thermesh policy show` prints goes in, parameters of a Gaussian come out."""
    learned = bandit.prior()
    for _ in range(20):
        learned = bandit.updated(learned, bandit.context_of("code"), Action(0.6), 1.0)
    source = io.StringIO("version  live\n" + json.dumps(learned.to_lists()) + "\n")
    target = io.StringIO()
    convert(source, target)
    assert gaussian.Parameters.from_lists(json.loads(target.getvalue())) == warm_started(learned)


def test_a_new_installation_begins_with_what_was_tuned(tmp_path):
    """The file that tuning writes, as old as it is; without one, the packaged values."""
    path, strangers = tmp_path / "tuned.json", Statics(caution=0.3, alarm=9.0, kinship=0.0)
    path.write_text(json.dumps({"statics": {"caution": 0.3, "alarm": 9.0}}))

    assert newborn(PolicyConfig(statics=str(path))).statics == strangers
    assert newborn(PolicyConfig()).statics == Statics()


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"statics": {"caution": 9}}', '{"statics": {"courage": 1}}']
)
def test_a_file_that_is_no_result_of_tuning_stops_the_process(content, tmp_path):
    """With a message that names the variable, never with what could be read of it."""
    path = tmp_path / "tuned.json"
    path.write_text(content)
    with pytest.raises(BadSetting, match="THERMESH_POLICY_STATICS"):
        newborn(PolicyConfig(statics=str(path)))


def test_statics_join_an_exported_version():
    """It decides by them, and keeps what it learned."""
    learned = bandit.updated(bandit.prior(), 0, Action(0.6), 1.0)
    content = {"format": 1, "kind": "thompson", "parameters": learned.to_lists()}
    joined = applied(content, Statics(caution=0.3))
    parameters = bandit.Parameters.from_lists(joined["parameters"])

    assert parameters.statics == Statics(caution=0.3)
    assert parameters.sums.tolist() == learned.sums.tolist()
    with pytest.raises(ValueError, match="grid"):
        applied({"kind": "squashed_gaussian", "parameters": gaussian.prior().to_lists()}, Statics())


def test_versions_from_before_tuning_have_the_packaged_statics_and_no_kin():
    """Stored versions without the member are read, and learning keeps what a version has."""
    stored = bandit.prior(statics=Statics(alarm=5.0)).to_lists()
    kept = bandit.updated(bandit.Parameters.from_lists(stored), 0, Action(0.6), 1.0)
    del stored["statics"]

    assert kept.statics == Statics(alarm=5.0)
    assert bandit.Parameters.from_lists(stored).statics == Statics(kinship=0.0)


def test_a_version_from_before_kinship_decides_as_it_did():
    """Its actions are strangers: mean and spread of each follow from its own rewards alone."""
    stored = bandit.updated(bandit.prior(), 0, Action(0.6), 1.0).to_lists()
    del stored["statics"]["kinship"]
    read = bandit.Parameters.from_lists(stored)
    moved = bandit.updated(read, 0, Action(0.25), -0.5)
    (before, wide), (after, narrow) = bandit.beliefs(read, 0), bandit.beliefs(moved, 0)
    index = read.actions.index(Action(0.25))

    strength = 2.0 + 18.0 / (1.0 + 2.0 / 50.0)
    counts, sums = moved.counts[0], moved.sums[0]
    level = sums.sum() / (1.0 + counts.sum())
    expected = (strength * (level + bandit._shapes(read.actions)[0]) + sums) / (strength + counts)
    assert after == pytest.approx(expected)
    assert narrow[index] / wide[index] < (narrow / wide)[-1]
    assert after[index] < before[index]


def test_a_braver_policy_explores_more():
    """`caution` is what the spread of each belief is scaled by."""
    allowed = np.ones(len(bandit.grid()), dtype=bool)
    shares = [
        bandit.probabilities(bandit.prior(statics=Statics(caution=each)), 3, allowed).max()
        for each in (0.2, 0.6, 1.2)
    ]

    assert shares == sorted(shares, reverse=True)
