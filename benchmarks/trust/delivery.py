"""Feedback in bulk through Redis and a real Celery worker, both killed now and then.

Decisions, outcomes and feedback are sent in a known order, 5 % of everything twice; the
worker gets signal 9 at chosen events and Redis is restarted in the middle. Then every
piece must be applied once, and the learner's state must equal, bit for bit, one delivery
of each event in order, folded in this process without store, worker or crash.

A run continues on what an earlier one left in `folder`, so that 100,000 pieces of
feedback fit into several commands; each checks its own part and what it began from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.trust.users import ACTS_AS, features
from services.controller.decisions.decision import Constraints, Mode, Observation, decide
from services.controller.decisions.records import (
    Context,
    DecisionRecord,
    Feedback,
    LoggedDecision,
    Outcome,
    prior_version,
)
from services.controller.learning.joining import Arrival, FeedbackArrived, OutcomeArrived, fold
from services.controller.learning.lesson import LearnerState
from services.controller.policies.policy import PolicySnapshot, prior
from services.controller.storage.learning_store import RedisLearningStore
from services.controller.storage.ports import Checkpoint
from services.controller.storage.store import RedisStore
from thermesh.errors import MeshError
from thermesh.testing import RedisServer, eventually

T = TypeVar("T")
KIND, TENANTS, DUPLICATES = "thompson", 10, 0.05
ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = (
    *("-m", "celery", "-A", "services.controller.tasks", "worker", "--pool", "solo"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", "thermesh-learner"),
)
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Load:
    """How much to send and how often to break what."""

    count: int
    kills: int
    restarts: int
    seed: int


class Worker:
    """The learner's process; `kill` ends it with signal 9 and starts another."""

    def __init__(self, url: str, folder: pathlib.Path) -> None:
        self._url, self._log = url, folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        environment = {"REDIS_URL": self._url, "THERMESH_POLICY_KIND": KIND}
        environment |= {"THERMESH_LEARNER_SWEEP_SECONDS": "0.2", "OMP_NUM_THREADS": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *WORKER],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End the process with signal 9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End it and start another."""
        self.stop()
        self.start()


@contextlib.contextmanager
def mesh(folder: pathlib.Path) -> Iterator[tuple[RedisServer, Worker]]:
    """Run Redis on what lies in `folder`, and a worker."""
    server = RedisServer(folder)
    server.start()
    worker = Worker(server.url, folder)
    worker.start()
    try:
        yield server, worker
    finally:
        worker.stop()
        server.stop()


def measured(load: Load, folder: pathlib.Path) -> dict[str, object]:
    """Send `load` on top of what is in `folder`; return what was lost, doubled, and how fast."""
    with mesh(folder) as (server, worker):
        return asyncio.run(_measured(load, server, worker))


async def _measured(load: Load, server: RedisServer, worker: Worker) -> dict[str, object]:
    serving, learning = RedisStore(server.url), RedisLearningStore(server.url)
    if learning.checkpoint() is None:
        learning.publish_prior(prior_version(0, prior(KIND)))
    await eventually(lambda: _idle(learning), _PATIENCE_SECONDS, "an idle learner")
    begin, began = _checkpoint(learning), time.monotonic()
    arrivals = await _sent(load, serving, server, worker)
    sent = time.monotonic() - began
    wanted = begin.state.feedback_count + load.count
    await eventually(
        lambda: _checkpoint(learning).state.feedback_count >= wanted,
        _PATIENCE_SECONDS,
        "everything learned",
    )
    await eventually(lambda: _idle(learning), _PATIENCE_SECONDS, "an idle learner")
    applied = time.monotonic() - began
    end = _checkpoint(learning)
    lost = 0
    for each in arrivals:
        if isinstance(each, FeedbackArrived):
            name = each.feedback.tenant, each.feedback.feedback_id
            lost += await serving.applied_version(*name) == 0
    await serving.close()
    expected = _folded(begin, arrivals)
    return {
        "feedback": load.count,
        "kills": load.kills,
        "redis_restarts": load.restarts,
        "seed": load.seed,
        "began_from": begin.state.feedback_count,
        "lost": lost,
        "double": end.state.feedback_count - wanted,
        "bit_equal": end.state == expected,
        "sent_seconds": round(sent, 1),
        "applied_seconds": round(applied, 1),
        "versions": end.version.version - begin.version.version,
    }


def _checkpoint(learning: RedisLearningStore) -> Checkpoint:
    checkpoint = learning.checkpoint()
    assert checkpoint is not None
    return checkpoint


def _idle(learning: RedisLearningStore) -> bool:
    with contextlib.suppress(MeshError):
        return not learning.events_after(_checkpoint(learning).applied_event, 1)
    return False


def _folded(begin: Checkpoint, arrivals: Sequence[Arrival]) -> LearnerState:
    """Return the state after one delivery of each event, in order."""
    state, entries = begin.state, begin.entry_count
    waiting = {}
    for first in range(0, len(arrivals), 256):
        joined = fold(state, entries, waiting, arrivals[first : first + 256])
        state, entries = joined.state, joined.entry_count
        waiting = {**waiting, **joined.changed}
    return state


async def _sent(
    load: Load, store: RedisStore, server: RedisServer, worker: Worker
) -> list[Arrival]:
    """Send everything in order; return the events as they count."""
    dice, arrivals = random.Random(load.seed), []
    kills = set(dice.sample(range(load.count // 20, load.count), load.kills))
    restarts = set(dice.sample(range(load.count // 4, load.count), load.restarts))
    for index, record in enumerate(_records(load)):
        if index in kills:
            worker.kill()
        if index in restarts:
            server.stop()
            server.start()
        await _retried(lambda record=record: store.record([record]))  # type: ignore[misc]
        arrivals += await _judged(store, record, f"{load.seed}-{index}", dice)
    return arrivals


async def _judged(
    store: RedisStore, record: DecisionRecord, name: str, dice: random.Random
) -> list[Arrival]:
    logged = LoggedDecision.from_json(record.to_json())
    score = min(1.0, max(-1.0, dice.gauss(0.3, 0.4)))
    feedback = Feedback(record.context.tenant, name, record.decision_id, score)
    outcome = Outcome(record.decision_id, "stop", 5, 9, 0, 0, dice.randrange(1_000_000))
    arrivals: list[Arrival] = [FeedbackArrived(feedback, logged), OutcomeArrived(outcome)]
    dice.shuffle(arrivals)
    for arrival in arrivals:
        for _ in range(1 + (dice.random() < DUPLICATES)):
            if isinstance(arrival, FeedbackArrived):
                await _retried(lambda: store.submit(feedback))
            else:
                await _retried(lambda: store.report(outcome))
    return arrivals


def _records(load: Load) -> Iterator[DecisionRecord]:
    generator, snapshot = np.random.default_rng(load.seed), PolicySnapshot(1, prior(KIND), 0)
    for index in range(load.count):
        task = index % len(ACTS_AS)
        seen = Observation(np.array(features(task)), ACTS_AS[task])
        decision = decide(snapshot, seen, Constraints(), Mode.APPLY, generator)
        context = Context(tenant=f"t{index % TENANTS}")
        yield DecisionRecord(decision, context, "m", "/v1/chat/completions", 1)


async def _retried(call: Callable[[], Awaitable[T]]) -> T:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await call()
        except MeshError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)
