"""Outcome and feedback meet in any order, once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.decisions.records import Feedback, LoggedDecision, Outcome
from services.controller.learning import joining
from services.controller.learning.joining import FeedbackArrived, OutcomeArrived, Waiting, fold
from services.controller.learning.lesson import LearnerState
from services.controller.policies.gaussian import prior
from thermesh.features import FEATURES

NEUTRAL = tuple(feature.neutral for feature in FEATURES)


def outcome(decision_id, milliseconds=100):
    """An outcome that took that long."""
    return OutcomeArrived(
        Outcome(decision_id, "stop", 5, 7, 1000, 1000 * milliseconds, 0, temperatures=())
    )


def feedback(decision_id, feedback_id="f1", score=1.0):
    """A judgement of a decision that was explored."""
    decision = LoggedDecision(decision_id, "", "chat", NEUTRAL, 0.2, 1.1, 1.0, 0.1, True, 0.5, 0.3)
    return FeedbackArrived(Feedback("default", feedback_id, decision_id, score), decision)


def folded(arrivals, cuts=()):
    """Fold in batches cut at the given places, as a learner with a store would."""
    state, count, entries, applied = LearnerState(prior()), 0, {}, []
    places = [0, *sorted(cuts), len(arrivals)]
    for begin, end in itertools.pairwise(places):
        joined = fold(state, count, entries, arrivals[begin:end])
        state, count = joined.state, joined.entry_count
        stored = {key: entry.to_json() for key, entry in joined.changed.items()}
        entries |= {key: Waiting.from_json(text) for key, text in stored.items()}
        applied += [each.feedback.feedback_id for each in joined.applied]
    return state, applied, entries


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_either_may_come_first(order):
    """An experience is complete when both are there."""
    arrivals = [outcome("d1"), feedback("d1")]
    state, applied, _ = folded([arrivals[index] for index in order])

    assert state.feedback_count == 1
    assert applied == ["f1"]


def test_feedback_without_outcome_waits():
    """Nothing is learned from half an experience, and it is not forgotten."""
    state, applied, entries = folded([feedback("d1"), outcome("d2")])

    assert (state.feedback_count, applied) == (0, [])
    assert entries["d1"].judged
    assert entries["d2"].outcome is not None


def test_an_answer_may_be_judged_more_than_once():
    """The outcome goes on waiting after it met its first feedback."""
    arrivals = [feedback("d1", "f1"), outcome("d1"), feedback("d1", "f2"), feedback("d1", "f3")]
    state, applied, _ = folded(arrivals)

    assert state.feedback_count == 3
    assert applied == ["f1", "f2", "f3"]


def test_a_second_outcome_changes_nothing():
    """The first one that was stored is the one that counts."""
    _, _, entries = folded([outcome("d1", 100), outcome("d1", 900)])

    assert entries["d1"].outcome == outcome("d1", 100).outcome


def test_the_newest_entries_are_kept(monkeypatch):
    """An entry that is too old is as if it never was."""
    monkeypatch.setattr(joining, "WAITING_LIMIT", 3)
    arrivals = [outcome(f"d{index}") for index in range(5)]
    _, applied, _ = folded([*arrivals, feedback("d1"), feedback("d4", "f4")])

    assert applied == ["f4"]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_how_events_are_cut_into_batches_changes_nothing(data):
    """The state after any cut is bit-equal to the state after one batch."""
    decisions = [f"d{index}" for index in range(6)]
    arrivals = [outcome(each, 50 * index) for index, each in enumerate(decisions)]
    arrivals += [
        feedback(each, f"f{each}{index}", score=0.3 * index - 0.4)
        for each in decisions
        for index in range(2)
    ]
    arrivals = data.draw(st.permutations(arrivals))
    cuts = data.draw(st.sets(st.integers(0, len(arrivals)), max_size=6))

    assert folded(arrivals, cuts)[:2] == folded(arrivals)[:2]
