"""Steering: each rule takes hold, lets go, and never touches the user's own value."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.decisions.courses import Courses, course_of
from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.records import Context, DecisionRecord
from services.controller.decisions.steering import Steerer, Telemetry
from services.controller.policies.gaussian import prior
from services.controller.policies.policy import PolicySnapshot
from services.controller.sampling import Fixed, Penalties
from services.controller.storage.memory_store import MemoryStore

NOW = 1_700_000_000_000


async def another_controller(*decisions):
    """What a controller knows that made none of the decisions; they are stored."""
    store = MemoryStore()
    records = [DecisionRecord(each, Context(), "m", "/", 1) for each in decisions]
    await store.record(records)
    return Courses(store)


async def test_a_controller_that_did_not_decide_steers_from_the_next_report_on(decision):
    """The first report has it look the decision up, and the rules then hold as ever."""
    courses = await another_controller(decision)
    steerer = Steerer(courses)
    looping = Telemetry(
        "r", decision.decision_id, 64, repetition=0.7, temperature=decision.policy_temperature
    )
    before = steerer.revise(looping, NOW)
    await courses.find()
    revision = steerer.revise(dataclasses.replace(looping, token_count=80), NOW)

    assert before is None
    assert revision.program == Fixed(pytest.approx(decision.policy_temperature + 0.15))
    assert revision.update_id == 80


async def test_steps_that_another_controller_took_are_taken_over(decision):
    """The temperature that decodes tells where the request is; it goes back from there."""
    courses = await another_controller(decision)
    steerer, warmer = Steerer(courses), decision.policy_temperature + 0.15
    courses.get(decision.decision_id)
    await courses.find()
    reports = [
        Telemetry("r", decision.decision_id, count, 0, 2.0, 0.0, temperature=warmer)
        for count in range(64, 128, 16)
    ]
    revisions = [steerer.revise(each, NOW) for each in reports]

    assert revisions[:2] == [None, None]
    assert revisions[2].reason == "settled"
    assert revisions[2].program == Fixed(pytest.approx(decision.policy_temperature))


async def test_what_was_pinned_is_not_steered_by_any_controller(maker):
    """The stored decision says so."""
    pinned = maker.decide(temperature=0.4)
    courses = await another_controller(pinned)
    courses.get(pinned.decision_id)
    await courses.find()
    looping = Telemetry("r", pinned.decision_id, 64, repetition=0.9)
    assert Steerer(courses).revise(looping, NOW) is None


async def test_decisions_that_are_nowhere_are_asked_for_within_a_bound():
    """A replica that names what nobody decided fills nothing."""
    courses = Courses(MemoryStore())
    for index in range(5000):
        assert courses.get(f"dec-{index}") is None
    assert len(courses._wanted) == 4096
    await courses.find()
    assert (len(courses._wanted), len(courses._courses)) == (0, 0)


@pytest.fixture
def decision(maker):
    """A decision whose temperature the policy chose."""
    return maker.decide("generation", max_tokens=500)


@pytest.fixture
def steerer(decision):
    """Follows requests; knows `decision`."""
    recent = Courses(MemoryStore())
    recent.remember(decision)
    return Steerer(recent)


@pytest.fixture
def report(steerer, decision):
    """Reports on one request of `decision` and returns the revision."""

    def reporting(token_count, now=NOW, **telemetry):
        values = {"mean_entropy": 2.0, **telemetry}
        sequence = Telemetry("r1", decision.decision_id, token_count, 500, **values)
        return steerer.revise(sequence, now)

    return reporting


def test_a_request_that_goes_well_is_left_alone(report):
    """No rule, no revision."""
    assert [report(count) for count in range(16, 400, 16)] == [None] * 24


def test_a_loop_is_broken_by_warmth_and_penalty(report, decision):
    """One step warmer than what the policy drew, with a penalty."""
    revision = report(64, repetition=0.7)

    assert revision.reason == "repetition_loop"
    assert revision.program == Fixed(pytest.approx(decision.policy_temperature + 0.15))
    assert revision.penalties == Penalties(repetition=1.1)
    assert revision.update_id == 64


def test_steps_wait_for_their_effect(report):
    """The next step comes after the dwell, and there are at most two."""
    revisions = {count: report(count, repetition=0.7) for count in range(64, 200, 16)}

    assert [count for count, revision in revisions.items() if revision] == [64, 96]


def test_it_goes_back_when_settled_and_not_before(report, decision):
    """Between the two thresholds nothing changes."""
    report(64, repetition=0.7)
    between = report(128, repetition=0.35)
    settled = report(160, repetition=0.1)

    assert between is None
    assert settled.reason == "settled"
    assert settled.program == Fixed(decision.policy_temperature)
    assert settled.penalties == Penalties()


def test_certainty_alone_is_no_collapse(report):
    """A fact is recited with little entropy; only with repetition it is a loop."""
    assert report(64, mean_entropy=0.01) is None
    assert report(96, mean_entropy=0.01, repetition=0.3).reason == "entropy_collapse"


def test_drift_is_cooled(report, decision):
    """A request that is sure of nothing gets cooler, without a penalty."""
    revision = report(64, mean_entropy=5.0)

    assert revision.reason == "entropy_drift"
    assert revision.program == Fixed(pytest.approx(decision.policy_temperature - 0.15))
    assert revision.penalties == Penalties()


def test_a_pinned_request_keeps_its_program(report):
    """Whatever the rules say, and also where only the telemetry knows."""
    assert report(64, repetition=1.0, pinned=True) is None


@pytest.mark.parametrize(
    ("mode", "constraints"), [(Mode.APPLY, {"temperature": 0.9}), (Mode.OBSERVE, {})]
)
def test_only_temperatures_of_the_policy_are_steered(maker, mode, constraints):
    """Pinned and static requests are not among those that may be."""
    recent = Courses(MemoryStore())
    decision = maker.decide(mode=mode, **constraints)
    recent.remember(decision)

    assert (
        Steerer(recent).revise(Telemetry("r", decision.decision_id, 64, repetition=1.0), NOW)
        is None
    )


def test_the_users_penalties_are_kept(maker):
    """An update replaces all penalties, so it carries none where the user set some."""
    recent = Courses(MemoryStore())
    decision = maker.decide(penalties=Penalties(presence=1.0))
    recent.remember(decision)
    revision = Steerer(recent).revise(Telemetry("r", decision.decision_id, 64, repetition=1.0), NOW)

    assert revision.penalties is None
    assert revision.program is not None


def test_a_deadline_lowers_the_budget_once_it_is_near(report):
    """The budget ends the answer in time at the speed that was measured."""
    deadline = NOW + 3_000
    assert report(16, NOW, deadline_unix_ms=deadline) is None
    assert report(36, NOW + 500, deadline_unix_ms=deadline) is None
    near = report(76, NOW + 1_500, deadline_unix_ms=deadline)
    again = report(96, NOW + 2_000, deadline_unix_ms=deadline)

    assert near.reason == "deadline_near"
    assert near.program is None
    # 40 tokens a second for 1.5 s, of which four fifths are promised
    assert near.token_budget == 76 + 48
    assert again is None


def test_a_deadline_is_kept_for_pinned_requests_too(report):
    """The budget is not the program."""
    report(16, NOW, deadline_unix_ms=NOW + 1_000, pinned=True)
    revision = report(32, NOW + 500, deadline_unix_ms=NOW + 1_000, pinned=True)

    assert revision.token_budget == 32 + 12


def test_a_budget_that_is_lower_already_is_left(steerer, decision):
    """What ends before the deadline anyway needs no revision."""
    for count, now in ((16, NOW), (32, NOW + 500)):
        sequence = Telemetry(
            "r", decision.decision_id, count, 40, mean_entropy=2.0, deadline_unix_ms=NOW + 1_500
        )
        assert steerer.revise(sequence, now) is None


def test_ended_requests_are_forgotten(steerer, report):
    """A track lives as long as its request."""
    report(16)
    steerer.forget("r1")
    steerer.forget("never-seen")

    assert len(steerer) == 0


def test_what_is_remembered_is_bounded(maker):
    """The oldest decision goes for the newest."""
    recent = Courses(MemoryStore(), limit=2)
    decisions = [maker.decide() for _ in range(3)]
    for decision in decisions:
        recent.remember(decision)

    assert recent.get(decisions[0].decision_id) is None
    assert recent.get(decisions[2].decision_id) == course_of(decisions[2])


reports = st.builds(
    dict,
    grow=st.integers(1, 64),
    mean_entropy=st.floats(0, 10.8),
    repetition=st.floats(0, 1),
    left_ms=st.integers(-100, 20_000),
)


@settings(max_examples=60, deadline=None)
@given(series=st.lists(reports, max_size=40), reconnect_at=st.integers(0, 40))
def test_revisions_stay_inside_the_envelope_and_in_order(series, reconnect_at):
    """For any telemetry, also across a reconnection: ids grow, temperatures are allowed."""
    decision = _decision()
    recent = Courses(MemoryStore())
    recent.remember(decision)
    steerer, count, now, last_id = Steerer(recent), 0, NOW, 0
    for index, step in enumerate(series):
        if index == reconnect_at:
            steerer = Steerer(recent)
        count, now = count + step["grow"], now + 300
        sequence = Telemetry(
            "r",
            decision.decision_id,
            count,
            mean_entropy=step["mean_entropy"],
            repetition=step["repetition"],
            deadline_unix_ms=now + step["left_ms"],
        )
        revision = steerer.revise(sequence, now)
        if revision is None:
            continue
        assert revision.update_id > last_id
        last_id = revision.update_id
        if revision.program is not None:
            bounds = decision.envelope
            assert bounds.lower <= revision.program.temperature <= bounds.upper
        assert revision.token_budget is None or revision.token_budget > count


def _decision():
    constraints = Constraints(temperature_range=(0.5, 0.7))
    made = decide(
        PolicySnapshot(1, prior(), 0),
        Observation(),
        constraints,
        Mode.APPLY,
        np.random.default_rng(0),
    )
    return dataclasses.replace(made, token_budget=0)
