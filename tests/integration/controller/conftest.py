"""A controller over real gRPC: in this process without Redis, or as processes with it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from services.controller.__main__ import grpc_server
from services.controller.config import Config
from services.controller.room import furnish
from services.controller.storage.memory_store import MemoryStore
from thermesh import rpc
from thermesh.clock import SystemClock
from thermesh.testing import eventually, free_port
from thermesh.v1 import controller_pb2, controller_pb2_grpc, feedback_pb2, feedback_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[3]
LEARNER = (
    *("-m", "celery", "-A", "services.controller.tasks", "worker", "--pool", "solo"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "-Q", "thermesh-learner"),
)


class Client:
    """What the other rooms say to the controller."""

    def __init__(self, channel):
        self.controller = controller_pb2_grpc.ControllerServiceStub(channel)
        self.feedback = feedback_pb2_grpc.FeedbackServiceStub(channel)

    async def decide(self, **members):
        """A plan."""
        request = controller_pb2.DecideRequest(**members)
        with rpc.translated():
            return (await self.controller.Decide(request, timeout=30)).plan

    async def judge(self, plan, feedback_id, score=1.0):
        """Submit feedback."""
        request = feedback_pb2.SubmitFeedbackRequest(
            feedback_id=feedback_id, decision_id=plan.decision_id, score=score
        )
        with rpc.translated():
            return await self.feedback.SubmitFeedback(request, timeout=30)

    async def end(self, plan, milliseconds=200):
        """Report an outcome."""
        request = controller_pb2.ReportOutcomeRequest(
            decision_id=plan.decision_id,
            finish_reason="FINISH_REASON_STOP",
            usage={"completion_tokens": 5, "decode_time_us": 1000 * milliseconds},
        )
        with rpc.translated():
            return await self.controller.ReportOutcome(request, timeout=30)

    async def applied(self, feedback_id):
        """The version that learned from it; 0 while pending."""
        request = feedback_pb2.GetFeedbackRequest(feedback_id=feedback_id)
        with rpc.translated():
            return (await self.feedback.GetFeedback(request, timeout=30)).applied_version

    async def imported(self, kind, parameters):
        """The number of a version from elsewhere."""
        request = controller_pb2.ImportPolicyRequest(kind=kind, parameters_json=parameters)
        with rpc.translated():
            return (await self.controller.ImportPolicy(request, timeout=30)).policy.version

    async def tried(self, version, **members):
        """Put a version on trial."""
        request = controller_pb2.StartRolloutRequest(version=version, **members)
        with rpc.translated():
            return (await self.controller.StartRollout(request, timeout=30)).rollout

    async def trial(self):
        """The newest trial."""
        request = controller_pb2.GetRolloutRequest()
        with rpc.translated():
            return (await self.controller.GetRollout(request, timeout=30)).rollout

    async def stopped(self):
        """End the trial."""
        request = controller_pb2.StopRolloutRequest()
        with rpc.translated():
            return (await self.controller.StopRollout(request, timeout=30)).rollout

    async def policies(self):
        """All versions and modes."""
        request = controller_pb2.ListPoliciesRequest(limit=1000)
        with rpc.translated():
            return await self.controller.ListPolicies(request, timeout=30)


@contextlib.asynccontextmanager
async def connected(port):
    """A client of the controller on `port`."""
    channel = rpc.connect(f"127.0.0.1:{port}")
    try:
        yield Client(channel)
    finally:
        await channel.close()


@pytest.fixture
def store():
    """The store of `client`'s controller."""
    return MemoryStore()


@pytest.fixture
async def client(store):
    """A controller in this process that keeps its state in memory."""
    config = Config(port=0, grace_seconds=0)
    room = furnish(config, store, SystemClock(), lambda _: None, np.random.default_rng(2))
    async with room.running():
        server = grpc_server(room)
        port = await server.start()
        await room.watcher.current.wait()
        async with connected(port) as made:
            yield made
        await server.drain()


class Processes:
    """Controller and learner as processes beside a real Redis."""

    def __init__(self, redis, folder, sweep_seconds=0.5):
        self.redis = redis
        self.port = free_port()
        self.folder = folder
        self.trace_file = folder / "traces.jsonl"
        self._sweep_seconds = sweep_seconds
        self._running = {}

    def start(self, name):
        """Start `controller` or `learner`."""
        command = LEARNER if name == "learner" else ("-m", "services.controller")
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={
                    **os.environ,
                    "REDIS_URL": self.redis.url,
                    "THERMESH_CONTROLLER_PORT": str(self.port),
                    "THERMESH_TRACE_FILE": str(self.trace_file),
                    "THERMESH_LEARNER_SWEEP_SECONDS": str(self._sweep_seconds),
                    "OMP_NUM_THREADS": "1",
                    "PYTHONUNBUFFERED": "1",
                },
                stdout=log,
                stderr=log,
            )

    def stop(self, name, number=signal.SIGKILL):
        """End a process and return its exit status."""
        process = self._running.pop(name)
        process.send_signal(number)
        return process.wait(30)

    def stop_all(self):
        """End everything that was started here."""
        for name in list(self._running):
            self.stop(name)

    def log(self, name):
        """What a process has written."""
        return (self.folder / f"{name}.log").read_text()

    async def serving(self):
        """Return once the controller answers health checks."""
        channel = rpc.connect(f"127.0.0.1:{self.port}")
        try:
            await eventually(lambda: rpc.is_serving(channel), 30, "a serving controller")
        finally:
            await channel.close()

    def client(self):
        """A client of the controller; use as a context."""
        return connected(self.port)


@pytest.fixture
def processes(redis, tmp_path):
    """Starts controller and learner; ends both."""
    made = Processes(redis, tmp_path)
    try:
        yield made
    finally:
        made.stop_all()
