"""Learning: the right gradient, the right direction, the same result every time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from services.controller.decisions.decision import Constraints, Mode, decide
from services.controller.decisions.experience import Experience, reward
from services.controller.learning import lesson as learning
from services.controller.learning.lesson import LearnerState
from services.controller.policies.gaussian import Parameters, distribution, prior
from services.controller.policies.policy import PolicySnapshot


def state(feedback_count=0):
    """What a new installation learns from."""
    return LearnerState(prior(), feedback_count)


def arrays(parameters):
    """All numbers of parameters in one vector."""
    return np.concatenate([np.ravel(each) for each in parameters.to_lists().values()])


def test_reward_is_quality_minus_service_time(maker):
    """Both weights come from the decision, and latency ends at its worst."""
    decision = maker.logged(maker.decide(), quality_weight=2.0, latency_weight=0.5)

    assert reward(Experience(decision, 0.5, 2.0)) == pytest.approx(1.0 - 0.5 * 0.2)
    assert reward(Experience(decision, -1.0, 1e6)) == pytest.approx(-2.5)


def test_the_gradient_is_the_derivative_of_the_log_density(maker):
    """REINFORCE: gradient = advantage * d ln q(T) / d parameters, found by differences."""
    decision = maker.logged(maker.decide("generation"))
    analytic = learning.gradient(state(), decision, advantage=0.7).to_lists()

    def log_density(parameters):
        features = np.array(decision.features)
        density = distribution(parameters, 0, features, decision.lower, decision.upper)
        return density.log_density(decision.policy_temperature)

    for name, values in prior().to_lists().items():
        for index in list(np.ndindex(np.shape(values)))[:40]:
            ends = []
            for sign in (1, -1):
                moved = np.array(values)
                moved[index] += sign * 1e-6
                ends.append(log_density(Parameters(**{**prior().to_lists(), name: moved})))
            numerical = 0.7 * (ends[0] - ends[1]) / 2e-6

            assert np.array(analytic[name])[index] == pytest.approx(numerical, abs=1e-5)


def test_the_importance_weight_is_the_ratio_of_densities(maker):
    """Half the logged density weighs twice."""
    decision = maker.logged(maker.decide())
    rarer = dataclasses.replace(decision, log_density=decision.log_density - math.log(2))

    once = arrays(learning.gradient(state(), decision, 1.0))
    twice = arrays(learning.gradient(state(), rarer, 1.0))
    assert twice == pytest.approx(2 * once)


def test_the_importance_weight_is_clipped(maker):
    """A temperature that was hardly ever drawn does not throw the policy over."""
    decision = maker.logged(maker.decide())
    never = dataclasses.replace(decision, log_density=decision.log_density - 100)

    once = arrays(learning.gradient(state(), decision, 1.0))
    clipped = arrays(learning.gradient(state(), never, 1.0))
    assert clipped == pytest.approx(learning.MAXIMUM_IMPORTANCE_WEIGHT * once)


def test_a_step_is_never_longer_than_the_clipped_gradient(maker):
    """One piece of feedback cannot move the policy further than the learning rate."""
    for _ in range(50):
        decision = maker.logged(maker.decide(), quality_weight=1000.0)
        after = learning.apply(state(), Experience(decision, 1.0, 0.0))
        moved = np.linalg.norm(arrays(after.parameters) - arrays(prior()))

        assert 0 < moved <= learning.LEARNING_RATE * learning.MAXIMUM_GRADIENT_NORM + 1e-12


@pytest.mark.parametrize(
    ("mode", "constraints"),
    [(Mode.APPLY, {"temperature": 0.7}), (Mode.OBSERVE, {}), (Mode.BYPASS, {})],
)
def test_what_was_not_drawn_counts_but_teaches_nothing(maker, mode, constraints):
    """Pinned and static decisions leave parameters and baselines alone."""
    decision = maker.logged(maker.decide(mode=mode, **constraints))
    after = learning.apply(state(), Experience(decision, 1.0, 0.1))

    assert after == dataclasses.replace(state(), feedback_count=1)


def test_each_task_has_its_own_baseline(maker):
    """The mean reward of one task says nothing of another."""
    code = maker.logged(maker.decide("code"), latency_weight=0.0)
    after = learning.apply(state(), Experience(code, 1.0, 0.0))
    after = learning.apply(after, Experience(code, 0.0, 0.0))

    assert sorted(after.baselines) == [0.0] * 7 + [0.5]
    assert sum(after.baseline_counts) == 2


def test_a_task_that_is_not_known_has_a_baseline_too(maker):
    """Feedback for a request whose kind was not recognised is learned from."""
    decision = maker.logged(maker.decide(), task="")
    after = learning.apply(state(), Experience(decision, 1.0, 0.0))

    assert after.baseline_counts[-1] == 1
    assert after.parameters != prior()


@pytest.mark.parametrize(("task", "best"), [("question_answering", 0.15), ("generation", 1.2)])
def test_a_simulated_user_moves_the_temperature_to_what_they_like(maker, task, best):
    """With a reward that peaks at one temperature the policy goes there from its prior."""
    learned = state()
    generator = np.random.default_rng(11)
    observation = maker.observed(task)
    bounds = maker.decide(task).envelope

    def mean_temperature():
        density = distribution(
            learned.parameters,
            learned.feedback_count,
            observation.features,
            bounds.lower,
            bounds.upper,
        )
        return density.temperature_at(density.mean)

    first = mean_temperature()
    for _ in range(600):
        snapshot = PolicySnapshot(1, learned.parameters, learned.feedback_count)
        decision = decide(snapshot, observation, Constraints(), Mode.APPLY, generator)
        score = 1 - min(2.0, 4 * abs(decision.policy_temperature - best))
        learned = learning.apply(learned, Experience(maker.logged(decision), score, 0.2))

    assert abs(mean_temperature() - best) < 0.5 * abs(first - best)


def test_the_same_experiences_give_the_same_state_bit_for_bit(maker):
    """No clock, no randomness, no order of a dictionary is in it."""
    experiences = [
        Experience(maker.logged(maker.decide(task)), score, 0.3)
        for task in ("code", "chat", "generation")
        for score in (-1.0, -0.2, 0.9)
    ]
    results = []
    for _ in range(2):
        learned = state()
        for experience in experiences:
            learned = learning.apply(learned, experience)
        results.append(learned)

    assert results[0] == results[1]
    assert results[0].feedback_count == 9
