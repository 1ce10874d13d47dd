"""Thompson sampling over a grid: exact propensities, learning, forgetting, a warm start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.controller.capabilities import PATHS, Capabilities
from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.records import Context, DecisionRecord, LoggedDecision
from services.controller.policies import bandit, gaussian
from services.controller.policies.actions import Action
from services.controller.policies.envelope import envelope_of
from services.controller.policies.policy import PolicySnapshot, parameters_of, prior
from services.controller.policies.warmstart import warm_started
from thermesh.features import TASKS

CHAT = bandit.context_of("chat")


def learned(best=0.8, count=200, seed=3, context=CHAT, begin=None):
    """Beliefs after rewards that peak at one temperature."""
    parameters = begin or bandit.prior(shape_weight=0.0)
    everywhere = np.ones(len(parameters.actions), bool)
    generator = np.random.default_rng(seed)
    for _ in range(count):
        chances = bandit.probabilities(parameters, context, everywhere)
        action = parameters.actions[generator.choice(len(chances), p=chances / chances.sum())]
        reward = 0.6 - abs(action.temperature - best) + generator.normal(0, 0.3)
        parameters = bandit.updated(parameters, context, action, reward)
    return parameters


LEARNED = learned()


@settings(max_examples=40, deadline=None)
@given(
    mean=st.lists(st.floats(-1, 1), min_size=2, max_size=6),
    spread=st.floats(0.05, 0.5),
    seed=st.integers(0, 1000),
)
def test_the_quadrature_is_the_probability_of_being_highest(mean, spread, seed):
    """It agrees with drawing from the beliefs, for spreads of any two sizes."""
    means = np.array(mean)
    spreads = np.where(np.arange(len(means)) % 2, spread, 2 * spread)
    exact = bandit._highest(means, spreads)
    drawn = means + spreads * np.random.default_rng(seed).normal(size=(20_000, len(means)))
    observed = np.bincount(drawn.argmax(axis=1), minlength=len(means)) / 20_000

    assert exact.sum() == pytest.approx(1.0)
    assert exact == pytest.approx(observed, abs=0.025)


@settings(max_examples=60, deadline=None)
@given(ends=st.tuples(st.floats(0.1, 1.3), st.floats(0.1, 1.3)), seed=st.integers(0, 2**32))
def test_a_draw_is_the_inverse_of_the_running_sums(ends, seed):
    """The action whose share of the sum holds the random number, with its own probability."""
    parameters, (lower, upper) = LEARNED, sorted(ends)
    allowed = bandit.allowed_within(parameters.actions, lower, upper)
    assume(any(allowed))
    chances = bandit.probabilities(parameters, CHAT, allowed)
    edge = np.random.default_rng(seed).random() * chances.sum()
    index = int(np.searchsorted(np.cumsum(chances), edge, side="right"))
    drawn = PolicySnapshot(1, parameters, 0).draw(
        np.zeros(0), "chat", lower, upper, np.random.default_rng(seed)
    )

    assert (drawn.action, drawn.propensity) == (parameters.actions[index], chances[index])


def test_a_range_between_two_levels_weighs_one():
    """Its middle is all that any version can draw there, so that no version is preferred."""
    first, second = PolicySnapshot(1, bandit.prior(), 0), PolicySnapshot(2, learned(), 200)
    constraints = Constraints(temperature_range=(0.45, 0.55))
    observed, generator = Observation(task="chat"), np.random.default_rng(0)
    decision = decide(first, observed, constraints, Mode.APPLY, generator)
    logged = LoggedDecision.from_json(DecisionRecord(decision, Context(), "m", "/", 0).to_json())

    assert (logged.policy_temperature, logged.propensity) == (0.5, 1.0)
    assert second.importance(logged) == 1.0


def test_every_action_of_a_range_is_possible_and_no_other():
    """The floor keeps logs usable; the envelope is never left."""
    parameters = learned()
    allowed = np.array(bandit.allowed_within(parameters.actions, 0.25, 0.8))
    chances = bandit.probabilities(parameters, CHAT, allowed)

    assert (chances[allowed] > 0.0).all()
    assert (chances[~allowed] == 0.0).all()
    assert chances.sum() == pytest.approx(1.0)


def test_it_finds_the_best_temperature_of_a_task_and_leaves_others_alone():
    """Each task has beliefs of its own."""
    parameters, begin = learned(best=0.8), bandit.prior(shape_weight=0.0)
    everywhere = np.ones(len(parameters.actions), bool)
    code = bandit.context_of("code")

    best = parameters.actions[bandit.best(parameters, CHAT, everywhere)]
    assert best.temperature == pytest.approx(0.8, abs=0.21)
    before, after = bandit.beliefs(begin, code), bandit.beliefs(parameters, code)
    assert [each.tolist() for each in before] == [each.tolist() for each in after]


def test_a_fall_of_rewards_makes_it_look_again():
    """What was believed of a task is nearly dropped where rewards fall far below it."""
    parameters = learned(best=0.25, count=600)
    moved = learned(best=1.0, count=150, begin=parameters, seed=4)
    everywhere = np.ones(len(parameters.actions), bool)

    assert parameters.actions[bandit.best(parameters, CHAT, everywhere)].temperature <= 0.4
    assert moved.actions[bandit.best(moved, CHAT, everywhere)].temperature >= 0.8


def test_a_newborn_decodes_each_task_near_its_anchor():
    """A fact is cool and a story is warm before anybody said anything."""
    means = {}
    for task in TASKS:
        envelope, parameters = envelope_of("", task), bandit.prior()
        allowed = bandit.allowed_within(parameters.actions, envelope.lower, envelope.upper)
        chances = bandit.probabilities(parameters, bandit.context_of(task), allowed)
        means[task] = sum(
            chance * action.temperature
            for chance, action in zip(chances, parameters.actions, strict=True)
        )

    assert means["question_answering"] + 0.3 < means["generation"]
    assert means["classification"] < means["chat"] < means["generation"]


def test_an_action_outside_of_the_grid_teaches_nothing():
    """Logs of an older grid are passed over."""
    begin = bandit.prior()
    assert bandit.updated(begin, CHAT, Action(0.33), 1.0) is begin


def test_a_range_without_a_level_decodes_at_its_middle(maker):
    """The user's range is kept, and nothing is explored in it."""
    snapshot = PolicySnapshot(1, bandit.prior(), 0)
    wanted = Constraints(temperature_range=(0.45, 0.55))
    decision = decide(snapshot, maker.observed("chat"), wanted, Mode.APPLY, maker.generator)

    assert decision.policy_temperature == pytest.approx(0.5)
    assert decision.propensity == 1.0


def test_guard_cap_and_path_of_the_action_are_in_the_plan(maker):
    """The grid may hold more than temperatures."""
    grid = bandit.grid((0.6,), ("min_p",), (0.5,), ("light",))
    snapshot = PolicySnapshot(1, prior(bandit.KIND, grid), 0)
    seen, able = maker.observed("chat"), Capabilities(paths=PATHS)
    decision = decide(snapshot, seen, Constraints(), Mode.APPLY, maker.generator, capabilities=able)

    assert decision.sampling.guard.min_p == 0.05
    assert decision.sampling.guard.top_n_sigma is None
    assert decision.token_budget == 512
    assert decision.compute_path == "light"


@pytest.mark.parametrize("change", [{"counts": [[0.0]]}, {"actions": []}, {"squares": [1.0]}])
def test_parameters_that_do_not_fit_are_refused(change):
    """A broken version is not served."""
    with pytest.raises(ValueError, match=r"shape|action"):
        parameters_of("thompson", {**bandit.prior().to_lists(), **change})


def test_a_kind_that_is_not_known_is_refused():
    """An older program does not guess at a newer policy."""
    with pytest.raises(ValueError, match="squashed_gaussian"):
        parameters_of("oracle", {})


def test_the_gaussian_can_begin_at_the_bandits_choice(maker):
    """Its mean is the bandit's best temperature, and only for tasks that were judged."""
    parameters = learned(best=1.0, count=300)
    started = warm_started(parameters)
    envelope = envelope_of("", "chat")
    features = maker.observed("chat", 1.0).features
    density = gaussian.distribution(started, 300, features, envelope.lower, envelope.upper)

    assert density.temperature_at(density.mean) == pytest.approx(1.0, abs=0.11)
    assert density.sigma < gaussian.sigma_after(0)
    assert started.task_bias[TASKS.index("code")] == 0.0
