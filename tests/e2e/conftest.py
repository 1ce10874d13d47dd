"""The whole mesh as processes on free ports, each of which a test may stop and start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from thermesh import rpc
from thermesh.testing import RedisServer, eventually, free_port
from thermesh.v1 import inference_pb2, inference_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("feature", "controller", "inference", "gateway")
LEARNER = (
    *("-m", "celery", "-A", "services.controller.tasks", "worker", "--pool", "solo"),
    *("--without-gossip", "--without-mingle", "-Q", "thermesh-learner"),
)


class Mesh:
    """Starts, stops and kills the processes of one mesh.

    Names are the four rooms, `learner` and `redis`. `settings` are environment
    variables of all of them.
    """

    def __init__(self, folder: pathlib.Path, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._settings = settings or {}
        (folder / "redis").mkdir()
        self.redis = RedisServer(folder / "redis")
        self.ports = {room: free_port() for room in (*ROOMS, "http")}
        self.trace_file = folder / "traces.jsonl"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Base URL of the REST door."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def target(self, room: str) -> str:
        """gRPC address of a room."""
        return f"127.0.0.1:{self.ports[room]}"

    def start(self, name: str) -> None:
        """Start one process."""
        if name == "redis":
            self.redis.start()
            return
        command = LEARNER if name == "learner" else ("-m", f"services.{name}")
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self._environment(),
                stdout=log,
                stderr=log,
            )

    def stop(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End one process by a signal and wait until it is gone."""
        if name == "redis":
            self.redis.stop()
            return
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def start_all(self) -> None:
        """Start everything, Redis first."""
        for name in ("redis", *ROOMS, "learner"):
            self.start(name)

    def stop_all(self) -> None:
        """End everything."""
        for name in list(self._processes):
            self.stop(name, signal.SIGTERM)
        self.redis.stop()

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def memory(self, name: str) -> int:
        """Resident memory of a process in bytes."""
        status = pathlib.Path(f"/proc/{self._processes[name].pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    async def ready(self, timeout: float = 90) -> None:
        """Return once every room is serving and the REST door says it is ready."""
        for room in ROOMS:
            await eventually(lambda room=room: self._serving(room), timeout, f"{room} serving")
        await eventually(self._ready, timeout, "the REST door")

    async def load(self) -> inference_pb2.LoadReport:
        """How busy the engine is."""
        async with channel(self.target("inference")) as inference:
            stub = inference_pb2_grpc.InferenceServiceStub(inference)
            return (await stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=30)).load

    async def idle(self) -> bool:
        """Whether the engine holds no sequence, page or stream."""
        load = await self.load()
        return not (load.running or load.waiting or load.kv_pages_used or load.open_streams)

    async def is_serving_in_plaintext(self, room: str) -> bool:
        """Whether a room answers one who shows and asks for no certificate."""
        async with channel(self.target(room)) as peer:
            return await rpc.is_serving(peer, timeout=30)

    async def _serving(self, room: str) -> bool:
        if self._processes[room].poll() is not None:
            raise AssertionError(f"{room} ended:\n{self.log(room)[-3000:]}")
        async with channel(self.target(room)) as peer:
            return await rpc.is_serving(peer)

    async def _ready(self) -> bool:
        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        return await asyncio.to_thread(answers)

    def _environment(self) -> dict[str, str]:
        ports = {f"THERMESH_{room.upper()}_PORT": str(self.ports[room]) for room in ROOMS[:3]}
        targets = {f"THERMESH_{room.upper()}_TARGET": self.target(room) for room in ROOMS[:3]}
        return {
            **os.environ,
            **ports,
            **targets,
            "THERMESH_GATEWAY_HTTP_PORT": str(self.ports["http"]),
            "THERMESH_GATEWAY_GRPC_PORT": str(self.ports["gateway"]),
            "THERMESH_TRACE_FILE": str(self.trace_file),
            "REDIS_URL": self.redis.url,
            "PYTHONUNBUFFERED": "1",
            # What a late decision costs is for the benchmarks. Here a core that is
            # busy with a browser must not turn a plan of the policy into a fallback.
            "THERMESH_GATEWAY_EXTRACT_BUDGET_MS": "5000",
            "THERMESH_GATEWAY_DECIDE_BUDGET_MS": "5000",
            "THERMESH_GATEWAY_PLAN_GRACE_MS": "1000",
            **self._settings,
        }


@contextlib.asynccontextmanager
async def channel(target: str) -> AsyncIterator[object]:
    """A channel that is closed at the end of the block."""
    opened = rpc.connect(target)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture(scope="session")
def shared_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One mesh for all tests of the session: loading the model takes seconds."""
    mesh = Mesh(tmp_path_factory.mktemp("mesh"))
    mesh.start_all()
    try:
        asyncio.run(mesh.ready())
        yield mesh
    finally:
        mesh.stop_all()


@pytest.fixture
def mesh_of(tmp_path: pathlib.Path) -> Iterator[Callable[[dict[str, str]], Mesh]]:
    """Starts a mesh of one's own with these settings; ended with the test."""
    started: list[Mesh] = []

    def start(settings: dict[str, str]) -> Mesh:
        own = Mesh(tmp_path, settings)
        started.append(own)
        own.start_all()
        return own

    yield start
    for own in started:
        own.stop_all()


@pytest.fixture
def mesh(shared_mesh: Mesh) -> Mesh:
    """The shared mesh, idle and complete."""
    asyncio.run(eventually(shared_mesh.idle, 30, "an idle engine"))
    return shared_mesh
