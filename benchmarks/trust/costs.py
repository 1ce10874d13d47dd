"""What the control loop costs: from feedback to a new policy, and one decision.

From feedback to policy: real Redis, Celery worker and controller process. Other
feedback arrives at a steady rate meanwhile; a sample is the time from the answer to
SubmitFeedback until Decide answers with the version that learned from it.

From trigger to rollback: in the same processes all feedback turns round after a while; a
sample is that time for the piece that raises the guardrail's alarm.

One decision: `Decider.decide` in this process with each kind of policy, interleaved with
the same path in mode bypass, which asks no policy; medians of rounds, with their spread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.trust.delivery import ROOT, mesh
from benchmarks.trust.users import ACTS_AS, features
from services.controller.config import Config
from services.controller.decisions.decision import Constraints, Mode, Observation
from services.controller.decisions.records import Context, prior_version
from services.controller.policies.policy import KINDS, prior
from services.controller.room import Room, furnish
from services.controller.storage.memory_store import MemoryStore
from thermesh import rpc
from thermesh.clock import SystemClock
from thermesh.testing import eventually, free_port
from thermesh.v1 import controller_pb2, controller_pb2_grpc, feedback_pb2, feedback_pb2_grpc

ROUNDS, DECISIONS = 7, 2_000
PRAISED, MOST_BLAMED = 150, 100
PRAISE = 0.8
_CALL_SECONDS = 5.0


def decisions() -> dict[str, object]:
    """Return microseconds a decision takes, by kind of policy."""
    found: dict[str, object] = {}
    for kind in KINDS:
        room = furnish(
            Config(), MemoryStore(), SystemClock(), lambda _: None, np.random.default_rng(1)
        )
        room.serving.swap_policy(prior_version(0, prior(kind)))
        rounds: dict[Mode, list[float]] = {Mode.APPLY: [], Mode.BYPASS: []}
        for _ in range(ROUNDS):
            for mode, taken in rounds.items():
                taken.append(_round_us(room, mode))
        found[kind] = {
            mode.value: {"median_us": statistics.median(taken), "rounds_us": taken}
            for mode, taken in rounds.items()
        }
    return found


def _round_us(room: Room, mode: Mode) -> float:
    seen = [Observation(np.array(features(task)), name) for task, name in enumerate(ACTS_AS)]
    context, constraints = Context(session_id="s"), Constraints(mode=mode)
    began = time.perf_counter()
    for index in range(DECISIONS):
        room.decider.decide(seen[index % len(seen)], constraints, context, "m", "/")
    return (time.perf_counter() - began) / DECISIONS * 1e6


@dataclass
class Client:
    """What the gateway and inference say to the controller."""

    controller: controller_pb2_grpc.ControllerServiceStub
    feedback: feedback_pb2_grpc.FeedbackServiceStub
    sent: int = 0

    async def judged(self, score: float = 0.5) -> str:
        """Decide, report and judge one request; return the id of the feedback."""
        self.sent += 1
        name = f"f{self.sent}"
        request = controller_pb2.DecideRequest()
        plan = (await self.controller.Decide(request, timeout=_CALL_SECONDS)).plan
        outcome = controller_pb2.ReportOutcomeRequest(
            decision_id=plan.decision_id,
            finish_reason="FINISH_REASON_STOP",
            usage={"completion_tokens": 5, "decode_time_us": 1000},
        )
        await self.controller.ReportOutcome(outcome, timeout=_CALL_SECONDS)
        submit = feedback_pb2.SubmitFeedbackRequest(
            feedback_id=name, decision_id=plan.decision_id, score=score
        )
        await self.feedback.SubmitFeedback(submit, timeout=_CALL_SECONDS)
        return name

    async def served(self, score: float) -> float:
        """Judge one request; return the seconds from then on until the policy has heard it."""
        name = await self.judged(score)
        accepted = time.perf_counter()
        asked = feedback_pb2.GetFeedbackRequest(feedback_id=name)
        while True:
            applied = await self.feedback.GetFeedback(asked, timeout=_CALL_SECONDS)
            request = controller_pb2.DecideRequest()
            plan = (await self.controller.Decide(request, timeout=_CALL_SECONDS)).plan
            if 0 < applied.applied_version <= plan.policy_version:
                return time.perf_counter() - accepted
            await asyncio.sleep(0.001)

    async def guarded(self) -> float:
        """Praise for a while, then blame all; return how long the piece that raises the
        alarm took to be served, by the version that the guardrail published.
        """
        for _ in range(PRAISED):
            await self.judged(PRAISE)
        for _ in range(MOST_BLAMED):
            seconds = await self.served(-PRAISE)
            asked = controller_pb2.ListPoliciesRequest(limit=1)
            [newest] = (await self.controller.ListPolicies(asked, timeout=_CALL_SECONDS)).policies
            if newest.reason == "guarded":
                return seconds
        raise AssertionError("feedback that turned round raised no alarm")


def freshness(samples: int, others_per_second: float) -> dict[str, object]:
    """Return milliseconds from accepted feedback to the policy that learned from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        with mesh(path) as (server, _), _controller(server.url, path) as port:
            delays = asyncio.run(_sampled(port, samples, others_per_second))
    milliseconds = np.array(delays) * 1e3
    return {
        "samples": samples,
        "other_feedback_a_second": others_per_second,
        "p50_ms": float(np.percentile(milliseconds, 50)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "worst_ms": float(milliseconds.max()),
    }


async def _sampled(port: int, samples: int, others_per_second: float) -> list[float]:
    async with _connected(port) as client:
        for _ in range(5):
            await client.served(0.5)
        others = asyncio.create_task(_others(client, others_per_second))
        try:
            return [await client.served(0.5) for _ in range(samples)]
        finally:
            others.cancel()
            await asyncio.gather(others, return_exceptions=True)


def rollbacks(samples: int) -> dict[str, object]:
    """Return milliseconds from the feedback that raises the alarm to the older policy serving."""
    found = []
    for _ in range(samples):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            with mesh(path) as (server, _), _controller(server.url, path) as port:
                found.append(round(asyncio.run(_guarded(port)) * 1e3, 1))
    return {"milliseconds": found}


async def _guarded(port: int) -> float:
    async with _connected(port) as client:
        return await client.guarded()


@contextlib.asynccontextmanager
async def _connected(port: int) -> AsyncIterator[Client]:
    channel = rpc.connect(f"127.0.0.1:{port}")
    await eventually(lambda: rpc.is_serving(channel), 60, "a serving controller")
    try:
        yield Client(
            controller_pb2_grpc.ControllerServiceStub(channel),
            feedback_pb2_grpc.FeedbackServiceStub(channel),
        )
    finally:
        await channel.close()


async def _others(client: Client, per_second: float) -> None:
    while True:
        await client.judged()
        await asyncio.sleep(1.0 / per_second)


@contextlib.contextmanager
def _controller(redis_url: str, folder: pathlib.Path) -> Iterator[int]:
    port = free_port()
    environment = {"REDIS_URL": redis_url, "THERMESH_CONTROLLER_PORT": str(port)}
    environment |= {"THERMESH_FEEDBACK_PER_MINUTE": "0", "OMP_NUM_THREADS": "1"}
    with (folder / "controller.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.controller"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait()
