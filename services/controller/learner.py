"""Takes up the events that wait and publishes what was learned, batch by batch.

    read checkpoint -> read events after it -> fold -> commit all at once

A commit is refused where the checkpoint moved meanwhile, by another learner or
by an operator, and then the batch is read and folded again. Dying anywhere
leaves the checkpoint as it was: the next run does the same work with the same
result. So it does not matter how often or by whom `drain` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.controller.decisions.records import PolicyVersion, prior_version
from services.controller.learning.joining import FeedbackArrived, Joined, fold
from services.controller.policies.policy import Parameters
from services.controller.storage.ports import Checkpoint, Commit, LearningStore, StoredEvent
from services.controller.trust.rollout import Stage
from thermesh.clock import Clock

BATCH = 256

Learned = Callable[[FeedbackArrived, int], None]
"""Called for each applied feedback with the version that learned from it."""


@dataclass(frozen=True, slots=True)
class Drained:
    """How much a drain took up."""

    events: int = 0
    feedback: int = 0
    version: int = 0


def drain(
    store: LearningStore,
    clock: Clock,
    learned: Learned | None = None,
    batch: int = BATCH,
    newborn: Parameters | None = None,
) -> Drained:
    """Take up everything that waits; raises Unavailable where the store is away.

    `newborn` is published where nothing is yet; the packaged prior by default.
    """
    store.hint_taken()
    total = Drained()
    while True:
        checkpoint = _checkpoint(store, clock, newborn)
        events = store.events_after(checkpoint.applied_event, batch)
        if not events:
            return Drained(total.events, total.feedback, checkpoint.version.version)
        applied = _take_up(store, clock, checkpoint, events, learned)
        if applied is not None:
            total = Drained(total.events + len(events), total.feedback + applied)


def _checkpoint(store: LearningStore, clock: Clock, newborn: Parameters | None) -> Checkpoint:
    while (checkpoint := store.checkpoint()) is None:
        store.publish_prior(prior_version(clock.unix_ms(), newborn))
    return checkpoint


def _take_up(
    store: LearningStore,
    clock: Clock,
    checkpoint: Checkpoint,
    events: Sequence[StoredEvent],
    learned: Learned | None,
) -> int | None:
    """Fold and commit one batch; return the feedback applied, None where refused."""
    arrivals = [event.arrival for event in events if event.arrival is not None]
    waiting = store.waiting({arrival.decision_id for arrival in arrivals})
    joined = fold(checkpoint.state, checkpoint.entry_count, waiting, arrivals)
    commit = Commit(
        expected=checkpoint,
        applied_event=events[-1].event_id,
        state=joined.state,
        entry_count=joined.entry_count,
        changed=joined.changed,
        published=_published(checkpoint, joined, clock) if joined.applied else None,
        applied=[each.feedback for each in joined.applied],
    )
    if not store.commit(commit):
        return None
    if learned is not None and commit.published is not None:
        for each in joined.applied:
            learned(each, commit.published.version)
    return len(joined.applied)


def _published(checkpoint: Checkpoint, joined: Joined, clock: Clock) -> PolicyVersion:
    live = checkpoint.version.version
    return PolicyVersion(
        version=live + 1,
        parameters=joined.state.parameters,
        created_unix_ms=clock.unix_ms(),
        reason=_reason(checkpoint, joined),
        parent_version=live,
        feedback_count=joined.state.feedback_count,
    )


def _reason(checkpoint: Checkpoint, joined: Joined) -> str:
    """Return why there is a new version: the guardrail, a trial that was won, or learning."""
    before, after = checkpoint.state.memory.guardrail, joined.state.memory.guardrail
    if after.rollbacks > before.rollbacks:
        return "guarded"
    rollout = joined.state.rollout
    won = rollout is not None and rollout.stage is Stage.PROMOTED
    return "promoted" if won and rollout != checkpoint.state.rollout else "learned"
