"""What works behind the calls: recorder, watcher, hints, and the state that serves."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from services.controller import watcher as watching
from services.controller.decisions.decision import Mode
from services.controller.decisions.records import Context, DecisionRecord, PolicyVersion
from services.controller.hints import Hints
from services.controller.policies.gaussian import prior
from services.controller.recorder import Recorder
from services.controller.serving import Serving
from services.controller.storage.memory_store import MemoryStore
from services.controller.watcher import Watcher
from thermesh.errors import Unavailable
from thermesh.testing import eventually


@contextlib.asynccontextmanager
async def running(loop):
    """Run a loop for the length of the block."""
    task = asyncio.create_task(loop)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def store():
    """A store that a test may make unreachable."""
    return MemoryStore()


@pytest.fixture
def record(maker):
    """Makes a new decision record."""
    return lambda: DecisionRecord(maker.decide(), Context(), "m", "/", 1)


async def test_records_are_written_behind(store, record):
    """Adding does not wait; the loop writes."""
    recorder = Recorder(store)
    records = [record() for _ in range(600)]
    async with running(recorder.run()):
        for each in records:
            recorder.add(each)
        waiting = len(recorder)
        await eventually(lambda: len(recorder) == 0)

    assert waiting == 600
    assert set(store._decisions) == {each.decision_id for each in records}


async def test_records_outlive_a_store_that_is_away(store, record, caplog):
    """They wait, and the log says so once each way."""
    caplog.set_level("INFO")
    recorder = Recorder(store)
    store.reachable = False
    kept = record()
    async with running(recorder.run()):
        recorder.add(kept)
        await eventually(lambda: "queue up" in caplog.text)
        waiting = kept.decision_id in recorder
        store.reachable = True
        await eventually(lambda: kept.decision_id in store._decisions)
        await eventually(lambda: "recorded again" in caplog.text)

    assert waiting
    assert caplog.text.count("queue up") == 1


def test_the_oldest_records_are_given_up_and_counted(store, record):
    """The queue is bounded."""
    recorder = Recorder(store, limit=2)
    records = [record() for _ in range(5)]
    for each in records:
        recorder.add(each)

    assert recorder.unrecorded == 3
    assert [each.decision_id in recorder for each in records] == [False] * 3 + [True] * 2


async def test_closing_writes_what_is_left(store, record):
    """And does not hang where the store is away."""
    recorder = Recorder(store)
    first, second = record(), record()
    recorder.add(first)
    await recorder.close(1.0)
    recorder.add(second)
    store.reachable = False
    await recorder.close(1.0)

    assert first.decision_id in store._decisions
    assert second.decision_id in recorder


async def test_a_decision_is_settled_before_more_is_told_of_it(store, record):
    """Whoever knows more of it has it written; what is not queued is nobody's business."""
    recorder = Recorder(store)
    queued = record()
    recorder.add(queued)
    await recorder.settle("dec-of-another")
    before = len(recorder)
    await recorder.settle(queued.decision_id)

    assert (before, len(recorder)) == (1, 0)
    assert queued.decision_id in store._decisions


async def test_flushing_tells_that_the_store_is_away(store, record):
    """Who needs the decision written now hears that it is not."""
    recorder = Recorder(store)
    recorder.add(record())
    store.reachable = False

    with pytest.raises(Unavailable):
        await recorder.flush()


async def test_the_first_look_publishes_the_prior(store, clock):
    """A new installation has version 1, which is what decided before."""
    serving = Serving()
    before = serving.state.snapshot
    await Watcher(store, serving, clock).refresh()

    assert await store.live_version() == 1
    assert serving.state.snapshot.version == before.version == 1
    assert serving.state.snapshot.parameters == before.parameters


async def test_what_is_published_serves(store, clock):
    """A version and a mode are swapped in as they are published."""
    serving = Serving()
    async with running(Watcher(store, serving, clock).run()):
        await eventually(lambda: store._live)
        await store.publish(PolicyVersion(2, prior(), 1, "learned", 1, 40), expected_live=1)
        await store.set_mode("/a", Mode.OBSERVE)
        await eventually(lambda: serving.state.snapshot.version == 2)
        await eventually(lambda: serving.state.modes == {"/a": Mode.OBSERVE})

    assert serving.state.snapshot.feedback_count == 40


async def test_serving_goes_on_while_the_store_is_away(store, clock, caplog, monkeypatch):
    """The last version stays, the log says so once, and the newest is found afterwards."""
    monkeypatch.setattr(watching, "RETRY_SECONDS", 0.001)
    caplog.set_level("INFO")
    serving = Serving()
    store.reachable = False
    async with running(Watcher(store, serving, clock).run()):
        await eventually(lambda: "go on by the last" in caplog.text)
        version_while_away = serving.state.snapshot.version
        store.reachable = True
        await eventually(lambda: "is back" in caplog.text)

    assert version_while_away == 1
    assert caplog.text.count("go on by the last") == 1


async def test_a_version_that_cannot_be_read_is_refused_once(store, clock, caplog):
    """Decisions go on by the last good one, and the log is not flooded."""
    serving = Serving()
    watcher = Watcher(store, serving, clock)
    await watcher.refresh()
    store._versions[2] = '{"version": 2, "parameters": {"w1": []}}'
    store._live["version"] = "2"
    for _ in range(3):
        await watcher.refresh()

    assert serving.state.snapshot.version == 1
    assert caplog.text.count("version 2 cannot be read") == 1


def test_the_most_particular_mode_wins():
    """Request, then route, then every route, then the default."""
    serving = Serving(Mode.APPLY)
    default = serving.state.mode_of("/a", None)
    serving.swap_modes({"*": Mode.BYPASS})
    everywhere = serving.state.mode_of("/a", None)
    serving.swap_modes({"*": Mode.BYPASS, "/a": Mode.OBSERVE})

    assert (default, everywhere) == (Mode.APPLY, Mode.BYPASS)
    assert serving.state.mode_of("/a", None) is Mode.OBSERVE
    assert serving.state.mode_of("/a", Mode.APPLY) is Mode.APPLY
    assert serving.state.mode_of("/b", None) is Mode.BYPASS


async def test_hints_are_sent_one_at_a_time_and_merged():
    """While one is under way the others become one."""
    sent, go = [], threading.Event()

    def send(traceparent):
        sent.append(traceparent)
        go.wait(5)

    hints = Hints(send)
    async with running(hints.run()):
        hints.want("a")
        await eventually(lambda: sent == ["a"])
        for each in "bcd":
            hints.want(each)
        go.set()
        await eventually(lambda: sent == ["a", "d"])


async def test_a_hint_that_fails_is_forgotten(caplog):
    """The learner looks by itself; the log says so once."""
    tries = []

    def send(traceparent):
        tries.append(traceparent)
        raise ConnectionError("no broker")

    hints = Hints(send)
    async with running(hints.run()):
        for number in range(1, 4):
            hints.want("")
            await eventually(lambda number=number: len(tries) == number)
        await eventually(lambda: "by itself" in caplog.text)

    assert caplog.text.count("by itself") == 1


async def test_a_trial_that_cannot_be_read_leaves_the_live_policy_deciding(store, clock, caplog):
    """The rest of the state is followed as ever."""
    serving = Serving()
    store._rollout = '{"written": "by a later release"}'
    await Watcher(store, serving, clock).refresh()

    assert serving.state.candidate is None
    assert serving.state.snapshot.version == 1
    assert "cannot be tried" in caplog.text
