"""Upper bounds over a grid: which action leads, what the floor leaves the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.controller.config import PolicyConfig
from services.controller.newborn import newborn
from services.controller.policies import bandit, linucb
from services.controller.policies.actions import Action
from services.controller.policies.policy import parameters_of
from services.controller.policies.statics import Statics

EVERYWHERE = np.ones(len(bandit.grid()), bool)


def strangers(width):
    """LinUCB as published, `width` deviations wide: strangers for actions, no prior, no fading."""
    statics = Statics(caution=width / linucb.WIDTH, kinship=0.0, last_strength=1.0, fading=1.0)
    return bandit.prior(shape_weight=0.0, statics=statics, of=linucb.Parameters)


@given(
    bounds=st.lists(st.floats(-1, 1), min_size=1, max_size=9),
    spread=st.lists(st.floats(0.0, 1.0), min_size=9, max_size=9),
)
def test_what_leads_has_the_highest_bound(bounds, spread):
    """All of the chance, shared evenly where bounds tie."""
    mean, wide = np.array(bounds), np.array(spread[: len(bounds)])
    leading, upper = strangers(1.0).leading(mean, wide), mean + linucb.WIDTH * wide

    assert leading.sum() == pytest.approx(1.0)
    assert ((leading > 0.0) == (upper == upper.max())).all()


def test_the_chances_are_those_of_the_published_bounds():
    """Ridge mean plus width over the root of the count, by hand, for one task of strangers."""
    parameters = strangers(1.5)
    for temperature, reward in ((0.1, 0.5), (0.1, 0.3), (0.6, 0.6), (1.2, -0.2)):
        parameters = bandit.updated(parameters, 0, Action(temperature), reward)
    counts, sums = parameters.counts[0], parameters.sums[0]
    level = sums.sum() / (1.0 + counts.sum())
    noise = np.sqrt((parameters.squares[0] + 10.0 * 0.25) / (counts.sum() + 10.0))
    bounds = (sums + level) / (counts + 1.0) + 1.5 * noise / np.sqrt(counts + 1.0)
    expected = np.full(7, linucb.EPSILON / 7)
    expected[bounds == bounds.max()] += (1.0 - linucb.EPSILON) / (bounds == bounds.max()).sum()

    found = bandit.probabilities(parameters, 0, EVERYWHERE)
    assert found == pytest.approx(expected)


def test_what_is_not_known_is_tried():
    """With a wide bound an action without rewards leads one that earned well enough."""
    parameters = strangers(2.0)
    for _ in range(20):
        parameters = bandit.updated(parameters, 0, Action(0.6), 0.2)
    chances = bandit.probabilities(parameters, 0, EVERYWHERE)

    assert chances[[each.temperature for each in bandit.grid()].index(0.6)] < 0.01


def test_a_new_installation_can_begin_with_it():
    """THERMESH_POLICY_KIND names it, over the grid and statics that are set."""
    config = PolicyConfig(policy_kind="linucb", grid_temperatures="0.2,0.9")
    parameters = newborn(config)

    assert parameters.kind == "linucb"
    assert [each.temperature for each in parameters.actions] == [0.2, 0.9]


def test_a_bandits_beliefs_are_taken_over():
    """An exported version of Thompson sampling whose kind is changed decides by bounds."""
    learned = bandit.updated(bandit.prior(), 0, Action(0.6), 1.0)
    taken = parameters_of("linucb", learned.to_lists())

    assert taken.to_lists() == learned.to_lists()
    assert taken != learned
    assert bandit.probabilities(taken, 0, EVERYWHERE).max() == pytest.approx(
        1.0 - linucb.EPSILON * 6 / 7
    )
