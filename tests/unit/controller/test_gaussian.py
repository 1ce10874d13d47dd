"""The squashed Gaussian: exact density, inside its range, sensible at birth."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.policies import gaussian as policy
from services.controller.policies.gaussian import (
    NEUTRAL,
    Parameters,
    SquashedGaussian,
    anchor_temperature,
    distribution,
    forward,
    gradient_of_mean,
    prior,
    sigma_after,
)
from thermesh.features import FEATURES, INDEX, TASKS

densities = st.builds(
    lambda mean, sigma, lower, width: SquashedGaussian(mean, sigma, lower, lower + width),
    st.floats(-4, 4),
    st.floats(0.05, 1.0),
    st.floats(0.1, 1.0),
    st.floats(0.05, 1.0),
)
vectors = st.lists(
    st.floats(0.0, 1.0, width=32), min_size=len(FEATURES), max_size=len(FEATURES)
).map(np.array)


def trained(seed):
    """Parameters that have moved away from the prior."""
    generator = np.random.default_rng(seed)
    lists = prior().to_lists()
    moved = {
        name: np.array(each) + generator.normal(0, 0.3, np.shape(each))
        for name, each in lists.items()
    }
    return Parameters(**moved)


@settings(max_examples=60, deadline=None)
@given(density=densities)
def test_density_integrates_to_one(density):
    """The logged density is a density with respect to temperature."""
    # integrated over z, where it is smooth: q(T) dT = q(T(z)) dT/dz dz
    z = np.linspace(density.mean - 9 * density.sigma, density.mean + 9 * density.sigma, 4001)
    temperatures = np.array([density.temperature_at(each) for each in z])
    q = np.exp([density.log_density_at(each) for each in z])
    slope = (temperatures - density.lower) * (density.upper - temperatures)
    slope /= density.upper - density.lower

    assert np.trapezoid(q * slope, z) == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(density=densities, standard=st.floats(-3, 3))
def test_density_is_the_derivative_of_the_distribution(density, standard):
    """It equals the numerical derivative of P(T <= t)."""

    def below(temperature):
        z = (density.z_of(temperature) - density.mean) / density.sigma
        return 0.5 * (1 + math.erf(z / math.sqrt(2)))

    z = density.mean + density.sigma * standard
    temperature = density.temperature_at(z)
    step = 1e-4 * min(temperature - density.lower, density.upper - temperature) * density.sigma
    numerical = (below(temperature + step) - below(temperature - step)) / (2 * step)

    assert math.exp(density.log_density(temperature)) == pytest.approx(numerical, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(density=densities, z=st.floats(-50, 50))
def test_temperature_stays_in_its_range(density, z):
    """No draw leaves the range, however far out."""
    assert density.lower <= density.temperature_at(z) <= density.upper + 1e-12


@settings(max_examples=60, deadline=None)
@given(density=densities, z=st.floats(-8, 8))
def test_z_and_temperature_are_inverse(density, z):
    """z is found again from the temperature that was logged."""
    assert density.z_of(density.temperature_at(z)) == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "low", "high"),
    [
        ("question_answering", 0.2, 0.4),
        ("arithmetic", 0.2, 0.4),
        ("code", 0.2, 0.4),
        ("chat", 0.55, 0.65),
        ("generation", 0.7, 0.9),
    ],
)
def test_the_prior_is_sensible_for_each_task(maker, task, low, high):
    """Facts, sums and code begin cool, chat in between, stories warm."""
    assert low <= anchor_temperature(maker.observed(task).features) <= high


def test_neutral_features_mean_chat():
    """A classifier that knows nothing leaves the temperature of chat."""
    assert anchor_temperature(NEUTRAL) == pytest.approx(0.6)


def test_features_without_task_probabilities_mean_chat():
    """All probabilities zero is no division by zero."""
    assert anchor_temperature(np.zeros(len(FEATURES))) == 0.6


def test_exploration_shrinks_with_feedback_and_never_ends():
    """sigma falls steadily towards a floor."""
    sigmas = [sigma_after(count) for count in (0, 100, 1000, 10_000, 10**9)]

    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[0] == pytest.approx(0.35)
    assert sigmas[-1] == pytest.approx(0.10, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(features=vectors, seed=st.integers(0, 20))
def test_the_gradient_of_the_mean_is_its_derivative(features, seed):
    """Every parameter's analytic derivative equals the finite difference."""
    parameters = trained(seed)
    analytic = gradient_of_mean(parameters, forward(parameters, features)).to_lists()
    generator = np.random.default_rng(seed)
    for name, values in parameters.to_lists().items():
        index = tuple(int(generator.integers(size)) for size in np.shape(values))
        ends = []
        for sign in (1, -1):
            moved = np.array(values)
            moved[index] += sign * 1e-6
            changed = Parameters(**{**parameters.to_lists(), name: moved})
            ends.append(forward(changed, features).learned)

        assert np.array(analytic[name])[index] == pytest.approx(
            (ends[0] - ends[1]) / 2e-6, abs=1e-6
        )


@settings(max_examples=60, deadline=None)
@given(features=vectors)
def test_the_mean_is_finite_whatever_was_learned(features):
    """Squashing keeps even absurd parameters from leaving the sigmoid's slope."""
    absurd = Parameters(**{name: np.array(each) + 1e6 for name, each in prior().to_lists().items()})
    density = distribution(absurd, 0, features, 0.1, 2.0)

    assert abs(density.mean) <= 4.0 + 3.0
    assert 0.1 < density.temperature_at(density.mean) < 2.0


def test_parameters_survive_json_bit_for_bit():
    """A version read back from the store is the version that was written."""
    parameters = trained(3)

    assert Parameters.from_lists(json.loads(json.dumps(parameters.to_lists()))) == parameters


@pytest.mark.parametrize("bad", [[0.0], [math.nan] * policy.HIDDEN])
def test_parameters_that_do_not_fit_are_refused(bad):
    """Wrong shapes and numbers that are none never reach a decision."""
    with pytest.raises(ValueError, match="w2"):
        Parameters.from_lists({**prior().to_lists(), "w2": bad})


def test_parameters_cannot_be_changed_in_place():
    """A snapshot that decides now is not touched by learning."""
    with pytest.raises(ValueError, match="read-only"):
        prior().w1[0, 0] = 1.0


def test_tasks_lie_side_by_side_in_the_schema():
    """The policy reads the task probabilities as one slice."""
    positions = [INDEX[f"task_{task}"] for task in TASKS]

    assert positions == list(range(positions[0], positions[0] + len(TASKS)))
