"""Outcome and feedback meet: a pure fold over the stream of events.

The two come in any order and from different senders. What came first waits
under its decision id; the waiting entries are part of the learner's checkpoint,
so a crash between the two forgets neither. An outcome goes on waiting after it
met feedback, since an answer can be judged more than once.

Most outcomes are never judged, so the newest WAITING_LIMIT entries are kept.
Whether an entry is too old is told from the numbers alone, not from when
entries were swept: how events were cut into batches must not change the result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from services.controller.decisions.experience import Experience
from services.controller.decisions.records import Feedback, LoggedDecision, Outcome
from services.controller.learning import lesson as learning
from services.controller.learning.lesson import LearnerState
from services.controller.learning.signals import is_broken, judgement_of

WAITING_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class FeedbackArrived:
    """A user judged an answer; the decision comes along as it was stored."""

    feedback: Feedback
    decision: LoggedDecision

    @property
    def decision_id(self) -> str:
        """The decision that was judged."""
        return self.feedback.decision_id


@dataclass(frozen=True, slots=True)
class OutcomeArrived:
    """Inference told how decoding went."""

    outcome: Outcome

    @property
    def decision_id(self) -> str:
        """The decision that was followed."""
        return self.outcome.decision_id


Arrival = FeedbackArrived | OutcomeArrived


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is known of one decision so far; `number` counts entries in order of birth."""

    number: int
    outcome: Outcome | None = None
    judged: tuple[FeedbackArrived, ...] = ()

    def to_json(self) -> str:
        """Return the stored form."""
        pairs = [[each.feedback.to_json(), each.decision.to_json()] for each in self.judged]
        outcome = None if self.outcome is None else self.outcome.to_json()
        return json.dumps([self.number, outcome, pairs], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Waiting:
        """Undo `to_json`."""
        number, outcome, pairs = json.loads(text)
        judged = tuple(
            FeedbackArrived(Feedback.from_json(feedback), LoggedDecision.from_json(decision))
            for feedback, decision in pairs
        )
        return cls(number, Outcome.from_json(outcome) if outcome else None, judged)


@dataclass(frozen=True, slots=True)
class Joined:
    """The result of a fold: the state, the entries that changed, and what was applied."""

    state: LearnerState
    entry_count: int
    changed: Mapping[str, Waiting] = field(default_factory=dict)
    applied: tuple[FeedbackArrived, ...] = ()


def fold(
    state: LearnerState,
    entry_count: int,
    waiting: Mapping[str, Waiting],
    arrivals: Iterable[Arrival],
) -> Joined:
    """Apply `arrivals` in order.

    `waiting` holds the entries of at least the decisions that arrive;
    `entry_count` is how many entries were ever born.
    """
    joined = Joined(state, entry_count)
    for arrival in arrivals:
        joined = _step(joined, waiting, arrival)
    return joined


def _step(joined: Joined, waiting: Mapping[str, Waiting], arrival: Arrival) -> Joined:
    key = arrival.decision_id
    entry = joined.changed.get(key) or waiting.get(key)
    if entry is None or entry.number <= joined.entry_count - WAITING_LIMIT:
        joined = replace(joined, entry_count=joined.entry_count + 1)
        entry = Waiting(joined.entry_count)
    if isinstance(arrival, FeedbackArrived):
        entry = replace(entry, judged=(*entry.judged, arrival))
    elif entry.outcome is None:
        entry = replace(entry, outcome=arrival.outcome)
    if entry.outcome is None or not entry.judged:
        return _with_entry(joined, key, entry)
    return _learned(
        _with_entry(joined, key, replace(entry, judged=())), entry.outcome, entry.judged
    )


def _with_entry(joined: Joined, key: str, entry: Waiting) -> Joined:
    return replace(joined, changed={**joined.changed, key: entry})


def _experience(arrived: FeedbackArrived, outcome: Outcome) -> Experience:
    judgement = judgement_of(arrived.feedback)
    return Experience(
        decision=arrived.decision,
        quality=judgement.quality,
        service_time_s=outcome.service_time_s,
        queue_time_s=outcome.queue_time_s,
        tenant=arrived.feedback.tenant,
        trust=judgement.trust,
        broken=is_broken(outcome),
    )


def _learned(joined: Joined, outcome: Outcome, judged: tuple[FeedbackArrived, ...]) -> Joined:
    state = joined.state
    for each in judged:
        state = learning.apply(state, _experience(each, outcome))
    return replace(joined, state=state, applied=(*joined.applied, *judged))
