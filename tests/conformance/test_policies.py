"""Every kind of policy draws by the chances it logs, learns, and survives storage."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.experience import Experience
from services.controller.decisions.records import (
    Context,
    DecisionRecord,
    LoggedDecision,
    PolicyVersion,
)
from services.controller.learning.lesson import LearnerState, apply
from services.controller.policies import bandit
from services.controller.policies.caution import cautious
from services.controller.policies.gaussian import NEUTRAL
from services.controller.policies.policy import KINDS, PolicySnapshot, prior
from thermesh.features import TASKS

GRIDS = [kind for kind, of in KINDS.items() if issubclass(of, bandit.Parameters)]
SEEN = Observation(NEUTRAL.copy(), "chat")

# inside the envelope of chat: outside of it nothing is drawn
ranges = st.tuples(st.floats(0.2, 1.1), st.floats(0.2, 1.1)).filter(
    lambda ends: abs(ends[0] - ends[1]) > 1e-3
)


def logged(snapshot, generator, wanted=None):
    """One decision as the learner reads it."""
    decision = decide(snapshot, SEEN, Constraints(temperature_range=wanted), Mode.APPLY, generator)
    return LoggedDecision.from_json(DecisionRecord(decision, Context(), "m", "/", 0).to_json())


@functools.cache
def learned(kind, best=0.9, count=150, seed=3):
    """The state of the learner after rewards of chat that peak at one temperature."""
    state, generator = LearnerState(prior(kind)), np.random.default_rng(seed)
    for _ in range(count):
        snapshot = PolicySnapshot(1, state.parameters, state.feedback_count)
        drawn = logged(snapshot, generator)
        quality = 0.6 - abs(drawn.policy_temperature - best) + generator.normal(0, 0.1)
        state = apply(state, Experience(drawn, float(np.clip(quality, -1, 1)), 0.0))
    return state


def later(kind):
    """A version that learned."""
    state = learned(kind)
    return PolicySnapshot(2, state.parameters, state.feedback_count)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_importance_weights_average_one(kind):
    """Drawn by one version and weighed by another, within three standard errors."""
    live, generator = PolicySnapshot(1, prior(kind), 0), np.random.default_rng(5)
    # a density that moved far has few large weights, and a mean of 3,000 would say nothing
    state = learned(kind, count=40)
    target = PolicySnapshot(2, state.parameters, state.feedback_count)
    weights = [target.importance(logged(live, generator)) for _ in range(3000)]
    error = np.std(weights) / np.sqrt(len(weights))

    assert abs(np.mean(weights) - 1.0) <= 3 * error


@pytest.mark.parametrize("kind", GRIDS)
def test_a_grids_importance_weights_average_exactly_one(kind):
    """Over every action, each as often as the live version draws it: no luck of draws in it."""
    live, generator = PolicySnapshot(1, prior(kind), 0), np.random.default_rng(5)
    drawn = {}
    while len(drawn) < 5:  # the levels inside the envelope of chat
        each = logged(live, generator)
        drawn[each.policy_temperature] = each
    weights = [each.propensity * later(kind).importance(each) for each in drawn.values()]

    assert sum(each.propensity for each in drawn.values()) == pytest.approx(1.0)
    assert sum(weights) == pytest.approx(1.0)
    assert max(abs(later(kind).importance(each) - 1.0) for each in drawn.values()) > 0.5


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(ends=ranges, seed=st.integers(0, 2**32))
def test_a_draw_stays_in_its_range_and_weighs_one_under_its_own_version(kind, ends, seed):
    """The chance that is logged is the chance that the same version gives it again."""
    lower, upper = sorted(ends)
    snapshot = later(kind)
    drawn = logged(snapshot, np.random.default_rng(seed), (lower, upper))

    assert lower - 1e-9 <= drawn.policy_temperature <= upper + 1e-9
    assert snapshot.importance(drawn) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same(kind):
    """A decision can be replayed from its version and seed."""
    one, other = (logged(later(kind), np.random.default_rng(8)) for _ in range(2))
    ids = {"decision_id": "", "traceparent": ""}

    assert dataclasses.replace(one, **ids) == dataclasses.replace(other, **ids)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_moves_towards_what_is_praised(kind):
    """Feedback that peaks at 0.9 warms chat up."""

    def mean(snapshot):
        generator = np.random.default_rng(1)
        return np.mean([logged(snapshot, generator).policy_temperature for _ in range(300)])

    assert mean(later(kind)) > mean(PolicySnapshot(1, prior(kind), 0)) + 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_reads_back_bit_for_bit(kind):
    """The stored form carries its kind, and no other kind equals it."""
    version = PolicyVersion(2, learned(kind).parameters, 7, "learned", 1, 150)
    read = PolicyVersion.from_json(version.to_json())

    assert json.loads(version.to_json())["kind"] == read.kind == kind
    assert read == version
    assert all(read.parameters != learned(each).parameters for each in KINDS if each != kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cautious_form_is_served_as_its_kind(kind):
    """The guardrail goes back to a version that decides as before, only more carefully."""
    careful = cautious(learned(kind).parameters)
    drawn = logged(PolicySnapshot(3, careful, 150), np.random.default_rng(2))

    assert careful.kind == kind
    assert drawn.propensity > 0.0 or drawn.log_density != 0.0


@pytest.mark.parametrize("kind", GRIDS)
@settings(max_examples=30, deadline=None)
@given(
    allowed=st.lists(st.booleans(), min_size=7, max_size=7).filter(any),
    task=st.sampled_from(("", *TASKS)),
)
def test_a_grids_chances_sum_to_one_and_none_is_nothing(kind, allowed, task):
    """Over what is allowed, with the floor below every chance; what is not allowed has none."""
    parameters, context = learned(kind).parameters, bandit.context_of(task)
    chances = bandit.probabilities(parameters, context, allowed)
    floor = parameters.floor(float(parameters.seen[context])) / sum(allowed)

    assert chances.sum() == pytest.approx(1.0)
    assert (chances[np.array(allowed)] >= floor).all()
    assert (chances[~np.array(allowed)] == 0.0).all()
