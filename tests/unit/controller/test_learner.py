"""The learner may die anywhere, or run twice, and counts everything once."""

from __future__ import annotations

import pytest

from services.controller.decisions.records import Context, DecisionRecord, Feedback, Outcome
from services.controller.learner import drain
from services.controller.storage.memory_store import MemoryStore
from thermesh.errors import Unavailable


class Killed(BaseException):
    """What kill -9 would do: nothing after it runs."""


class Dying:
    """A store whose learner dies before or after its n-th call."""

    CALLS = ("checkpoint", "publish_prior", "events_after", "waiting", "commit", "hint_taken")

    def __init__(self, store, dies_at, answered):
        self._store = store
        self._left = dies_at
        self._answered = answered
        self.died = False

    def __getattr__(self, name):
        def call(*arguments):
            self._left -= 1
            if self._left == 0 and not self._answered:
                self._die()
            answer = getattr(self._store, name)(*arguments)
            if self._left == 0:
                self._die()
            return answer

        return call

    def _die(self):
        self.died = True
        raise Killed


@pytest.fixture
def fill(maker):
    """Fills a store with the same 12 judged answers each time."""
    records = [DecisionRecord(maker.decide(), Context(), "m", "/", 1) for _ in range(12)]

    async def filling():
        store = MemoryStore()
        await store.record(records)
        for index, record in enumerate(records):
            feedback = Feedback("default", f"f{index}", record.decision_id, index / 6 - 1)
            outcome = Outcome(record.decision_id, "stop", 1, 1, 0, 0, 1000 * index)
            parts = [store.submit(feedback), store.report(outcome)]
            for part in parts if index % 2 else reversed(parts):
                await part
        return store

    return filling


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
async def test_dying_at_any_call_changes_nothing_in_the_end(fill, clock, answered):
    """Killed before or after every single call, then run again: the state is the same."""
    undisturbed = await fill()
    drain(undisturbed, clock, batch=5)
    expected = undisturbed.checkpoint()
    died = 0
    for dies_at in range(1, 100):
        store = await fill()
        dying = Dying(store, dies_at, answered)
        try:
            drain(dying, clock, batch=5)
        except Killed:
            died += 1
        drain(store, clock, batch=7)
        checkpoint = store.checkpoint()

        assert checkpoint.state == expected.state
        assert checkpoint.version.feedback_count == 12
        if not dying.died:
            break

    assert died > 15


async def test_a_second_learner_changes_nothing(fill, clock):
    """Two that take up the same events: one commits, the other reads again."""
    alone = await fill()
    drain(alone, clock)
    store = await fill()

    class Overtaken(Dying):
        """Another learner drains the store whenever this one reads events."""

        def __getattr__(self, name):
            inner = super().__getattr__(name)

            def call(*arguments):
                answer = inner(*arguments)
                if name == "events_after" and answer:
                    drain(store, clock, batch=3)
                return answer

            return call

    drained = drain(Overtaken(store, 0, answered=False), clock)

    assert drained.feedback == 0
    assert store.checkpoint().state == alone.checkpoint().state


async def test_each_applied_feedback_is_told_with_its_version(fill, clock):
    """So that the trace of its request can say so."""
    store, told = await fill(), []
    drain(store, clock, lambda applied, version: told.append((applied, version)), batch=8)

    assert [each.feedback.feedback_id for each, _ in told] == [f"f{index}" for index in range(12)]
    for each, version in told:
        assert await store.applied_version("default", each.feedback.feedback_id) == version


async def test_a_store_that_is_away_ends_the_drain(fill, clock):
    """The next look takes it up."""
    store = await fill()
    store.reachable = False

    with pytest.raises(Unavailable):
        drain(store, clock)


async def test_a_collapse_of_rewards_is_rolled_back_in_the_same_commit(maker, clock):
    """Turned-round feedback leaves the last good parameters live, and a version that says so."""
    store, reasons = MemoryStore(), []
    for index in range(200):
        record = DecisionRecord(maker.decide(), Context(), "m", "/", 1)
        score = 0.7 + 0.1 * (index % 3) if index < 150 else -0.8
        await store.record([record])
        await store.submit(Feedback("default", f"f{index}", record.decision_id, score))
        await store.report(Outcome(record.decision_id, "stop", 1, 1, 0, 0, 1000))
        drain(store, clock)
        reasons.append((await store.version(await store.live_version())).reason)

    assert reasons.count("guarded") == 1
    assert reasons.index("guarded") < 150 + 12
    assert store.checkpoint().state.memory.guardrail.held > 0
    assert store.checkpoint().version.feedback_count == 200
