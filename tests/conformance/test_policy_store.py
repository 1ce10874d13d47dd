"""One behaviour for every policy store: in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

from services.controller.decisions.decision import Constraints, Mode, Observation, Trial, decide
from services.controller.decisions.records import (
    Context,
    DecisionRecord,
    Feedback,
    Outcome,
    PolicyVersion,
    prior_version,
)
from services.controller.learner import drain
from services.controller.learning.joining import fold
from services.controller.learning.lesson import LearnerState
from services.controller.policies.policy import PolicySnapshot, prior
from services.controller.storage import layout, ports
from services.controller.storage.learning_store import RedisLearningStore
from services.controller.storage.memory_store import MemoryStore
from services.controller.storage.store import RedisStore
from services.controller.trust import flood
from services.controller.trust.rollout import Rollout, Stage
from thermesh.errors import AlreadyExists, NotFound, ResourceExhausted, Unavailable
from thermesh.testing import redis_server

GENERATOR = np.random.default_rng(1)


@pytest.fixture(scope="module")
def server():
    """One redis-server for all tests here; each begins with it empty."""
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def stores(request):
    """(serving side, learning side, a way to break both)."""
    if request.param == "memory":
        memory = MemoryStore()
        yield memory, memory, lambda: setattr(memory, "reachable", False)
        return
    server = request.getfixturevalue("server")
    serving, learning = RedisStore(server.url), RedisLearningStore(server.url)
    learning._redis.flushall()
    yield serving, learning, lambda: (server.stop(), request.addfinalizer(server.start))
    await serving.close()
    learning._redis.close()


@pytest.fixture
def serving(stores):
    """The side that answers calls."""
    return stores[0]


@pytest.fixture
def learning(stores):
    """The side that learns."""
    return stores[1]


def record(tenant="default"):
    """A new decision."""
    decision = decide(
        PolicySnapshot(1, prior(), 0), Observation(), Constraints(), Mode.APPLY, GENERATOR
    )
    return DecisionRecord(decision, Context("req-1", "", tenant, ""), "m", "/", 1)


def judged(decided, feedback_id="f1", score=1.0, **more):
    """Feedback for a decision."""
    tenant = more.pop("tenant", "default")
    return Feedback(tenant, feedback_id, decided.decision_id, score, **more)


def ended(decided):
    """The outcome of a decision."""
    return Outcome(decided.decision_id, "stop", 5, 9, 10, 20_000, 300_000, temperatures=(0.5,) * 9)


async def decided_by(serving, tenant="default"):
    """A decision that is stored."""
    made = record(tenant)
    await serving.record([made])
    return made


async def test_feedback_is_stored_once(serving):
    """The same id with the same content is a duplicate."""
    made = await decided_by(serving)
    first = await serving.submit(judged(made))
    second = await serving.submit(judged(made))

    assert (first.duplicate, first.applied_version) == (False, 0)
    assert (second.duplicate, second.applied_version) == (True, 0)
    assert await serving.applied_version("default", "f1") == 0


@pytest.mark.parametrize(
    "change", [{"score": -1.0}, {"signal": "edit"}, {"comment": "other"}], ids=str
)
async def test_the_same_id_with_other_content_is_refused(serving, change):
    """An idempotency key names one content."""
    made = await decided_by(serving)
    await serving.submit(judged(made))

    with pytest.raises(AlreadyExists) as raised:
        await serving.submit(dataclasses.replace(judged(made), **change))
    assert raised.value.field == "feedback_id"


async def test_feedback_for_an_unknown_decision_is_refused(serving, learning):
    """And leaves nothing behind."""
    with pytest.raises(NotFound) as raised:
        await serving.submit(judged(record()))

    assert raised.value.field == "decision_id"
    assert learning.events_after("0-0", 10) == []
    with pytest.raises(NotFound):
        await serving.applied_version("default", "f1")


async def test_another_tenants_decision_is_unknown(serving):
    """A tenant learns nothing of another's decisions, and ids do not clash."""
    made = await decided_by(serving, "acme")
    with pytest.raises(NotFound):
        await serving.submit(judged(made))

    assert not (await serving.submit(judged(made, tenant="acme"))).duplicate
    with pytest.raises(NotFound):
        await serving.applied_version("default", "f1")


async def test_an_outcome_is_stored_once(serving, learning):
    """The decision id makes it idempotent, known or not."""
    made = record()
    first, second = await serving.report(ended(made)), await serving.report(ended(made))
    events = learning.events_after("0-0", 10)

    assert (first.duplicate, second.duplicate) == (False, True)
    assert [event.arrival.outcome.temperatures for event in events] == [()]


async def test_events_come_in_order_of_arrival(serving, learning):
    """Feedback carries the stored decision; reading goes on after any event."""
    one, two = await decided_by(serving), await decided_by(serving)
    await serving.report(ended(one))
    await serving.submit(judged(two, "f2"))
    await serving.submit(judged(one, "f1", score=0.25))
    events = learning.events_after("0-0", 10)
    rest = learning.events_after(events[0].event_id, 1)

    assert [event.arrival.decision_id for event in events] == [
        one.decision_id,
        two.decision_id,
        one.decision_id,
    ]
    assert events[2].arrival.feedback.score == 0.25
    assert events[2].arrival.decision.policy_temperature == one.decision.policy_temperature
    assert events[2].arrival.decision.log_density == one.decision.log_density
    assert rest == [events[1]]


async def test_a_hint_is_wanted_once_until_it_is_taken(serving, learning):
    """However much comes in, one hint is under way."""
    made = await decided_by(serving)
    wanted = [(await serving.submit(judged(made, f"f{n}"))).hint_wanted for n in range(3)]
    learning.hint_taken()
    after = (await serving.report(ended(made))).hint_wanted

    assert wanted == [True, False, False]
    assert after


async def test_an_outcome_without_feedback_hints_at_nothing(serving):
    """Most answers are never judged; they do not wake the learner."""
    made = await decided_by(serving)

    assert not (await serving.report(ended(made))).hint_wanted


async def test_a_drain_learns_from_what_was_joined(serving, learning, clock):
    """Version, state of feedback, checkpoint and stream move together."""
    made, unjudged = await decided_by(serving), await decided_by(serving)
    await serving.submit(judged(made))
    await serving.submit(judged(unjudged, "waits"))
    await serving.report(ended(made))
    drained = drain(learning, clock)
    again = drain(learning, clock)
    live = await serving.version(2)

    assert (drained.events, drained.feedback, drained.version) == (3, 1, 2)
    assert (again.events, again.feedback, again.version) == (0, 0, 2)
    assert (live.reason, live.parent_version, live.feedback_count) == ("learned", 1, 1)
    assert live.parameters != prior()
    assert await serving.applied_version("default", "f1") == 2
    assert (await serving.submit(judged(made))).applied_version == 2
    assert await serving.applied_version("default", "waits") == 0


async def test_what_waits_is_found_by_a_later_drain(serving, learning, clock):
    """The outcome comes after the feedback was taken up, or before; both are joined."""
    early, late = await decided_by(serving), await decided_by(serving)
    await serving.submit(judged(early, "early"))
    await serving.report(ended(late))
    first = drain(learning, clock)
    await serving.report(ended(early))
    await serving.submit(judged(late, "late"))
    second = drain(learning, clock, batch=1)

    assert (first.feedback, first.version) == (0, 1)
    assert (second.feedback, second.version) == (2, 3)
    assert await serving.applied_version("default", "early") == 2
    assert await serving.applied_version("default", "late") == 3


async def test_a_commit_from_an_old_checkpoint_changes_nothing(serving, learning, clock):
    """Two learners with one batch: the second is refused as a whole."""
    made = await decided_by(serving)
    await serving.submit(judged(made))
    await serving.report(ended(made))
    learning.publish_prior(prior_version(1))
    checkpoint = learning.checkpoint()
    events = learning.events_after(checkpoint.applied_event, 10)
    joined = fold(checkpoint.state, 0, {}, [event.arrival for event in events])
    commit = ports.Commit(
        expected=checkpoint,
        applied_event=events[-1].event_id,
        state=joined.state,
        entry_count=joined.entry_count,
        changed=joined.changed,
        published=PolicyVersion(2, joined.state.parameters, 1, "learned", 1, 1),
        applied=[each.feedback for each in joined.applied],
    )

    assert learning.commit(commit)
    after = learning.checkpoint()
    assert not learning.commit(commit)
    assert learning.checkpoint() == after
    assert after.state == joined.state
    assert after.applied_event == events[-1].event_id


async def test_a_promotion_between_read_and_commit_is_seen(serving, learning, clock):
    """The learner goes on from what the operator made live."""
    made = await decided_by(serving)
    await serving.submit(judged(made))
    await serving.report(ended(made))
    learning.publish_prior(prior_version(1))
    checkpoint = learning.checkpoint()
    events = learning.events_after(checkpoint.applied_event, 10)
    promoted = PolicyVersion(2, prior(), 1, "promoted", 1, 0)
    await serving.publish(promoted, expected_live=1)
    stale = ports.Commit(checkpoint, events[-1].event_id, checkpoint.state, 0)

    assert not learning.commit(stale)
    assert drain(learning, clock).version == 3


async def test_an_event_that_cannot_be_read_is_passed_over(stores, clock, caplog):
    """One bad event does not stop learning for good."""
    serving, learning, _ = stores
    if isinstance(learning, MemoryStore):
        learning._add("feedback", "{not json")
    else:
        learning._redis.xadd("thermesh:{policy}:events", {"kind": "feedback", "body": "{not json"})
    made = await decided_by(serving)
    await serving.submit(judged(made))
    await serving.report(ended(made))

    assert drain(learning, clock).feedback == 1
    assert "passed over" in caplog.text


async def test_the_first_publication_wins(serving, learning):
    """Every controller and learner may publish the prior; one does."""
    assert await serving.live_version() == 0
    assert learning.checkpoint() is None
    assert await serving.publish(prior_version(1), expected_live=0)
    assert not await serving.publish(prior_version(2), expected_live=0)
    learning.publish_prior(prior_version(3))

    assert await serving.live_version() == 1
    assert (await serving.version(1)).created_unix_ms == 1
    assert learning.checkpoint().version == await serving.version(1)


async def test_versions_are_listed_newest_first_and_the_oldest_dropped(serving, monkeypatch):
    """So many are kept, and what is gone is NotFound."""
    monkeypatch.setattr("services.controller.storage.layout.KEPT_VERSIONS", 3)
    monkeypatch.setattr("services.controller.storage.ports.KEPT_VERSIONS", 3)
    for number in range(1, 6):
        version = PolicyVersion(number, prior(), number, "learned", number - 1, 0)
        assert await serving.publish(version, expected_live=number - 1)
    listed = await serving.versions(6, 10)
    page = await serving.versions(5, 1)

    assert [version.version for version in listed] == [5, 4, 3]
    assert [version.version for version in page] == [4]
    assert await serving.versions(1, 10) == []
    with pytest.raises(NotFound):
        await serving.version(2)


async def test_modes_are_set_and_removed(serving):
    """By route."""
    await serving.set_mode("/v1/chat/completions", Mode.OBSERVE)
    await serving.set_mode("*", Mode.BYPASS)
    both = await serving.modes()
    await serving.set_mode("*", None)

    assert both == {"/v1/chat/completions": Mode.OBSERVE, "*": Mode.BYPASS}
    assert await serving.modes() == {"/v1/chat/completions": Mode.OBSERVE}


async def test_routes_with_a_mode_are_bounded(serving, monkeypatch):
    """One more than the limit is refused; those there can still change."""
    monkeypatch.setattr("services.controller.storage.ports.ROUTES_LIMIT", 1)
    await serving.set_mode("/a", Mode.OBSERVE)
    with pytest.raises(ResourceExhausted):
        await serving.set_mode("/b", Mode.OBSERVE)
    await serving.set_mode("/a", Mode.APPLY)

    assert await serving.modes() == {"/a": Mode.APPLY}


async def test_events_that_wait_are_bounded(serving, monkeypatch):
    """Full is said at once: feedback to the user, outcomes to who keeps them."""
    monkeypatch.setattr("services.controller.storage.ports.EVENTS_LIMIT", 1)
    made, other = await decided_by(serving), await decided_by(serving)
    await serving.submit(judged(made))
    with pytest.raises(ResourceExhausted) as feedback:
        await serving.submit(judged(made, "f2"))
    with pytest.raises(Unavailable) as outcome:
        await serving.report(ended(other))

    assert feedback.value.retry_after
    assert outcome.value.retry_after
    assert (await serving.submit(judged(made))).duplicate


async def test_feedback_for_one_decision_is_bounded(serving, monkeypatch):
    """A client cannot fill the learner with one answer."""
    monkeypatch.setattr("services.controller.storage.ports.FEEDBACK_A_DECISION_LIMIT", 2)
    made = await decided_by(serving)
    for number in range(2):
        await serving.submit(judged(made, f"f{number}"))

    with pytest.raises(ResourceExhausted):
        await serving.submit(judged(made, "f2"))


@pytest.fixture(params=["memory", "redis"])
async def narrow(request):
    """A serving side that takes five pieces of feedback a minute from each tenant."""
    if request.param == "memory":
        yield MemoryStore(feedback_per_minute=5)
        return
    store = RedisStore(request.getfixturevalue("server").url, feedback_per_minute=5)
    await store._redis.flushall()
    yield store
    await store.close()


async def test_a_tenant_that_floods_is_refused_with_the_time_to_wait(narrow):
    """A minute's worth at once and no more; repeating costs nothing; others are not held up."""
    made, other = await decided_by(narrow), await decided_by(narrow, "other")
    for index in range(5):
        await narrow.submit(judged(made, f"f{index}"))
    with pytest.raises(ResourceExhausted) as raised:
        await narrow.submit(judged(made, "f5"))

    assert 10.0 < raised.value.retry_after <= 12.0
    assert (await narrow.submit(judged(made, "f0"))).duplicate
    assert not (await narrow.submit(judged(other, "f0", tenant="other"))).duplicate


async def test_the_schedule_is_exact():
    """After the wait one more is taken, a microsecond before it is not."""
    schedule = 0
    for _ in range(3):
        schedule, wait = flood.taken(schedule, 1_000_000_000, 3)
        assert wait == 0
    kept, wait = flood.taken(schedule, 1_000_000_000, 3)
    assert (kept, wait) == (schedule, 20_000_000)
    assert flood.taken(schedule, 1_000_000_000 + wait - 1, 3)[1] == 1
    assert flood.taken(schedule, 1_000_000_000 + wait, 3)[1] == 0


async def test_a_trial_is_stored_unless_another_one_was(serving):
    """Compare and set; its candidate outlives the versions that are dropped."""
    first = prior_version(1)
    await serving.publish(first, expected_live=0)
    shadow = Rollout(1, 1, Stage.SHADOW, 0.1)
    canary = dataclasses.replace(shadow, number=2, stage=Stage.CANARY)

    assert await serving.rollout() is None
    with pytest.raises(NotFound):
        await serving.candidate()
    assert await serving.set_rollout(shadow, None)
    assert not await serving.set_rollout(canary, None)
    assert await serving.set_rollout(canary, shadow)
    assert await serving.rollout() == canary
    assert await serving.candidate() == first


async def test_a_trial_moves_with_the_checkpoint(serving, learning, clock):
    """The learner counts for it in the same write, and sees when it was stopped meanwhile."""
    drain(learning, clock)
    trial = Trial(1, True, 1.0, 0.5, True)
    rollout = Rollout(1, 1, Stage.CANARY, 0.1)
    await serving.set_rollout(rollout, None)
    made = record()
    made = dataclasses.replace(made, decision=dataclasses.replace(made.decision, trial=trial))
    await serving.record([made])
    await serving.submit(judged(made))
    await serving.report(ended(made))
    checkpoint = learning.checkpoint()
    events = [each.arrival for each in learning.events_after("0-0", 10)]
    joined = fold(checkpoint.state, 0, {}, events)
    stopped = dataclasses.replace(rollout, stage=Stage.STOPPED)
    await serving.set_rollout(stopped, rollout)
    commit = ports.Commit(checkpoint, "99-0", joined.state, joined.entry_count)

    assert checkpoint.state.candidate == prior()
    assert not learning.commit(commit)
    await serving.set_rollout(rollout, stopped)
    drain(learning, clock)
    assert (await serving.rollout()).evidence.count == 1
    assert learning.checkpoint().state.rollout.evidence.count == 1


async def test_a_trial_that_another_release_wrote_does_not_stop_learning(stores, clock):
    """It stays as it is, and feedback counts."""
    serving, learning, _ = stores
    drain(learning, clock)
    text = '{"written": "by a later release"}'
    if isinstance(serving, MemoryStore):
        serving._rollout = text
    else:
        learning._redis.set(layout.ROLLOUT, text)
    made = await decided_by(serving)
    await serving.submit(judged(made))
    await serving.report(ended(made))

    assert drain(learning, clock).feedback == 1
    assert learning.checkpoint().rollout_json == text


async def test_imported_versions_are_numbered_apart_and_bounded(serving, monkeypatch):
    """They never become live by themselves."""
    monkeypatch.setattr(ports, "KEPT_IMPORTED", 3)
    stored = [await serving.import_version(prior(), index, 7) for index in range(5)]

    assert [each.version - ports.IMPORTED_AFTER for each in stored] == [1, 2, 3, 4, 5]
    assert await serving.imported() == stored[:1:-1]
    assert await serving.version(stored[-1].version) == stored[-1]
    assert await serving.live_version() == 0


async def test_recording_again_does_not_forget_feedback(serving):
    """The recorder may repeat a decision after a connection broke."""
    made = await decided_by(serving)
    await serving.submit(judged(made))
    await serving.record([made])

    assert (await serving.submit(judged(made))).duplicate
    assert (await serving.report(ended(made))).duplicate is False


async def test_waiting_for_a_change_ends_with_one(serving):
    """A publication and a mode wake who waits; without one the time does."""
    await serving.changed(0.01)
    waiting = asyncio.create_task(serving.changed(5))
    await asyncio.sleep(0)
    await serving.publish(prior_version(1), expected_live=0)
    await asyncio.wait_for(waiting, 30)
    waiting = asyncio.create_task(serving.changed(5))
    await asyncio.sleep(0)
    await serving.set_mode("*", Mode.OBSERVE)

    await asyncio.wait_for(waiting, 30)


async def test_a_store_that_is_away_says_so(stores):
    """Every call of both sides raises Unavailable with a time to try again."""
    serving, learning, break_it = stores
    made = record()
    state = LearnerState(prior())
    checkpoint = ports.Checkpoint(prior_version(1), "0-0", state, 0)
    break_it()
    calls = [
        serving.record([made]),
        serving.submit(judged(made)),
        serving.applied_version("default", "f1"),
        serving.report(ended(made)),
        serving.live_version(),
        serving.version(1),
        serving.versions(3, 2),
        serving.publish(prior_version(1), 0),
        serving.rollout(),
        serving.candidate(),
        serving.set_rollout(Rollout(1, 1, Stage.SHADOW, 0.1), None),
        serving.import_version(prior(), 0, 0),
        serving.imported(),
        serving.modes(),
        serving.set_mode("*", None),
        serving.changed(0.1),
    ]
    for call in calls:
        with pytest.raises(Unavailable) as raised:
            await call
        assert raised.value.retry_after
    for call in (
        learning.checkpoint,
        learning.hint_taken,
        lambda: learning.publish_prior(prior_version(1)),
        lambda: learning.events_after("0-0", 1),
        lambda: learning.waiting({"d"}),
        lambda: learning.commit(ports.Commit(checkpoint, "1-0", state, 0)),
    ):
        with pytest.raises(Unavailable):
            call()
