"""Forecasts: what is expected, how it follows outcomes, and what a plan makes of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.controller.decisions import pace
from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.pace import Forecaster
from services.controller.decisions.records import Outcome
from services.controller.forecasting import forecast
from services.controller.forecasting.forecast import LEAST_BUDGET, LENGTH_MARGIN, Forecast, Model
from services.controller.forecasting.trees import Forest
from services.controller.policies.gaussian import NEUTRAL
from services.controller.wire.forecast import forecast as message

SECONDS, TOKENS, HIGH, TOTAL = 0.05, 40, 80, 0.5
TRAINED = Model(
    Forest(
        np.zeros((4, 1, 1), dtype=np.int64),
        np.zeros((4, 1, 1)),
        np.zeros((4, 1, 2)),
        np.log([SECONDS, TOKENS, HIGH, TOTAL]),
    ),
    "own",
    256,
)
EXPECTED = Forecast(SECONDS, TOKENS, HIGH, TOTAL, longest=LENGTH_MARGIN * HIGH)


@pytest.fixture
def forecaster():
    """Expects the same of every request until it learns better."""
    return Forecaster(TRAINED)


def outcome(number, tokens=TOKENS, slower=1.0, reason="stop"):
    """How one decision went, `slower` times as long as expected."""
    prefill, total = SECONDS * slower, TOTAL * slower
    return Outcome(
        decision_id=f"d{number}",
        finish_reason=reason,
        prompt_tokens=5,
        completion_tokens=tokens,
        queue_time_us=0,
        prefill_time_us=round(1e6 * prefill),
        decode_time_us=round(1e6 * (total - prefill)),
    )


def taught(forecaster, count, **how):
    """The forecast after `count` outcomes alike."""
    for number in range(count):
        forecaster.remember(f"d{number}", NEUTRAL)
        forecaster.learn(outcome(number, **how))
    return forecaster.forecast(NEUTRAL, "own")


def rounded(value):
    """A forecast whose seconds compare."""
    return dataclasses.replace(
        value,
        prefill_seconds=round(value.prefill_seconds, 6),
        total_seconds=round(value.total_seconds, 6),
    )


def test_a_new_controller_forecasts_what_was_trained(forecaster):
    """Each output is the exponential of its trees."""
    assert rounded(forecaster.forecast(NEUTRAL, "own")) == EXPECTED


def test_outcomes_as_expected_change_nothing(forecaster):
    """Nothing drifts where nothing differs."""
    assert rounded(taught(forecaster, 50)) == EXPECTED


@pytest.mark.parametrize("slower", [0.2, 5.0])
def test_forecasts_follow_the_pace_of_this_machine(forecaster, slower):
    """After a few dozen requests seconds are those of this machine; lengths stay."""
    found = taught(forecaster, 60, slower=slower)

    assert found.prefill_seconds == pytest.approx(SECONDS * slower, rel=0.1)
    assert found.total_seconds == pytest.approx(TOTAL * slower, rel=0.1)
    assert found.output_tokens == TOKENS


def test_an_absurd_outcome_moves_a_pace_by_a_bounded_step(forecaster):
    """One stalled request does not spoil the forecasts of all others."""
    taught(forecaster, 100)
    found = taught(forecaster, 1, slower=1e6)

    assert found.total_seconds <= TOTAL * math.exp(pace.LAST_RATE * pace.LARGEST_MISS) * 1.001


@given(st.lists(st.tuples(st.integers(0, 4000), st.sampled_from(["stop", "length"])), max_size=60))
def test_short_answers_never_tighten_the_bound(answers):
    """What a bound cut short must not bound the next ones tighter."""
    forecaster = Forecaster(TRAINED)
    for number, (tokens, reason) in enumerate(answers):
        forecaster.remember(f"d{number}", NEUTRAL)
        forecaster.learn(outcome(number, tokens=tokens, reason=reason))
    longest = forecaster.forecast(NEUTRAL, "own").longest

    assert longest == 0 or longest >= EXPECTED.longest


def test_an_answer_that_was_cut_counts_only_where_it_was_long(forecaster):
    """How long it would have been is not known, but that it was at least so long is."""
    assert taught(forecaster, 20, tokens=5, reason="length").output_tokens == TOKENS
    assert taught(forecaster, 20, tokens=90, reason="length").output_tokens > TOKENS


def test_each_outcome_counts_once_and_unknown_ones_never(forecaster):
    """Reports are repeated; decisions of other controllers are not ours to learn from."""
    forecaster.remember("d0", NEUTRAL)
    for _ in range(30):
        forecaster.learn(outcome(0, slower=8.0))
        forecaster.learn(outcome(99, slower=8.0))

    assert forecaster.prefill.count == 1


def test_what_is_remembered_is_bounded(forecaster, monkeypatch):
    """The oldest decisions are forgotten first."""
    monkeypatch.setattr(pace, "REMEMBERED_LIMIT", 3)
    for number in range(5):
        forecaster.remember(f"d{number}", NEUTRAL)
    for number in range(5):
        forecaster.learn(outcome(number))

    assert forecaster.prefill.count == 3


def test_without_trees_nothing_is_forecast():
    """The controller decides by its constants."""
    forecaster = Forecaster(None)
    forecaster.remember("d0", NEUTRAL)
    forecaster.learn(outcome(0))

    assert forecaster.forecast(NEUTRAL, "own") is None


@pytest.mark.parametrize(("high", "model"), [(HIGH, "another"), (200.0, "own")])
def test_nothing_is_bounded_by_a_length_that_is_not_known(high, model):
    """Another model, or answers as long as the longest that was ever decoded."""
    assert not TRAINED.knows_length(high, model)
    assert TRAINED.knows_length(HIGH, "own")


def test_a_bound_is_never_lower_than_the_least_budget():
    """A short answer may still turn out a little longer."""
    assert forecast.bound(2.0) == LEAST_BUDGET
    assert forecast.bound(100.0) == 300


def test_a_forecast_bounds_the_budget_of_the_policys_own_plans(maker):
    """A user's own maximum, and modes that do not trust the policy, stay as they are."""

    def budget(mode=Mode.APPLY, expected=EXPECTED, **own):
        decision = decide(
            maker.snapshot,
            Observation(NEUTRAL, "chat"),
            Constraints(**own),
            mode,
            maker.generator,
            forecast=expected,
        )
        return decision.token_budget, decision.is_budget_bounded

    unknown = dataclasses.replace(EXPECTED, longest=0)
    assert budget() == (EXPECTED.longest, True)
    assert budget(expected=None) == budget(expected=unknown) == (1024, False)
    assert budget(max_tokens=900) == (900, False)
    assert budget(Mode.OBSERVE) == budget(Mode.BYPASS) == (1024, False)
    assert budget(temperature=0.5) == (1024, False)
    assert budget(expected=dataclasses.replace(EXPECTED, longest=5000)) == (1024, False)


def test_the_plan_explains_what_was_expected(maker):
    """Cost in units of reward, and whether the deadline is likely to be missed."""
    decision = decide(
        maker.snapshot,
        Observation(NEUTRAL, "chat"),
        Constraints(),
        Mode.APPLY,
        maker.generator,
        forecast=EXPECTED,
    )
    now = 1_000_000
    plans = [message(decision, EXPECTED, deadline, now) for deadline in (0, now + 400, now + 600)]

    assert [each.misses_deadline for each in plans] == [False, True, False]
    assert plans[0].latency_cost == pytest.approx(0.1 * TOTAL / 10.0)
    assert (plans[0].output_tokens, plans[0].bounds_budget) == (TOKENS, True)
