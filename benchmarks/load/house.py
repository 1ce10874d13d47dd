"""A mesh of its own on free ports, with the stub engine or the real one.

Every room is a process, started as anybody would start it; nothing of the
user's own mesh is touched.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx
import psutil

from thermesh import rpc
from thermesh.cli import mesh
from thermesh.testing import RedisServer, eventually, free_port

ROOMS = ("feature", "controller", "gateway")
START_SECONDS = 90.0
REAL_MODEL = "smollm2-135m-instruct"
"""What the real engine serves by default."""

WATCH_FILE = "alive.json"
"""Where a gateway that is watched tells what lives in it; see `watched`."""


class House:
    """The processes of one mesh; `ports` by room, and `http` for REST."""

    def __init__(self, folder: pathlib.Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in (*ROOMS, "inference", "http")}
        self._settings = settings
        (folder / "redis").mkdir()
        self.redis = RedisServer(folder / "redis")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def target(self, room: str) -> str:
        """Return the gRPC address of a room."""
        return f"127.0.0.1:{self.ports[room]}"

    def process(self, name: str) -> psutil.Process:
        """Return a running process, to be looked into."""
        return psutil.Process(self._processes[name].pid)

    @contextlib.contextmanager
    def parted(self) -> Iterator[None]:
        """Give engine and client the first core and the rest of the mesh the second, meanwhile.

        Where a client shares a core with who answers it, Linux often lets it go on at each
        byte written, in the place of the writer; clients elsewhere do not do that.
        """
        everywhere = os.sched_getaffinity(0)
        first, second, *_ = sorted(everywhere)
        mine = [psutil.Process(), self.process("inference")]
        mesh = [self.process(name) for name in ROOMS]
        try:
            _keep_on(mine, {first})
            _keep_on(mesh, {second})
            yield
        finally:
            _keep_on([*mine, *mesh], everywhere)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the processor time that each process has used, this one's as `client`."""
        mine = sum(psutil.Process().cpu_times()[:2])
        rooms = {name: sum(self.process(name).cpu_times()[:2]) for name in self._processes}
        return rooms | {"client": mine}

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start a process; what it writes is in `<name>.log`."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                env=self._environment(name),
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """End everything."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.redis.stop()

    async def ready(self, rooms: Sequence[str]) -> None:
        """Return once every room is serving, and the gateway has found them; raise
        AssertionError where that does not come.
        """
        for room in rooms:
            async with contextlib.AsyncExitStack() as stack:
                channel = rpc.connect(self.target(room))
                stack.push_async_callback(channel.close)
                serving = functools.partial(rpc.is_serving, channel)
                await eventually(serving, START_SECONDS, f"{room} serving")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.ports['http']}") as client:

            async def finds_all() -> bool:
                return (await client.get("/readyz")).is_success

            await eventually(finds_all, START_SECONDS, "the gateway ready")

    def _environment(self, name: str) -> dict[str, str]:
        threads = mesh.cores() if name == "inference" else 1
        own = {f"THERMESH_{room.upper()}_PORT": str(self.ports[room]) for room in ROOMS[:2]}
        own |= {
            f"THERMESH_{room.upper()}_TARGET": self.target(room)
            for room in ("feature", "controller", "inference")
        }
        own |= {
            "THERMESH_INFERENCE_PORT": str(self.ports["inference"]),
            "THERMESH_GATEWAY_HTTP_PORT": str(self.ports["http"]),
            "THERMESH_GATEWAY_GRPC_PORT": str(self.ports["gateway"]),
            "REDIS_URL": self.redis.url,
            "THERMESH_WATCH_FILE": str(self.folder / WATCH_FILE),
            "THERMESH_GRACE_SECONDS": "0",
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        return mesh.with_source_tree({**os.environ, **own, **self._settings})


def can_part() -> bool:
    """Tell whether there are two cores, and a system on which a process can be kept on one."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1


def _keep_on(processes: Sequence[psutil.Process], cores: set[int]) -> None:
    for process in processes:
        for thread in process.threads():
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(thread.id, cores)


@contextlib.asynccontextmanager
async def opened(
    engine: Sequence[str] | None,
    settings: dict[str, str] | None = None,
    gateway: str = "services.gateway",
) -> AsyncIterator[House]:
    """Run a mesh with the stub engine and these of its arguments, or (None) the real engine.

    `gateway` is the module of its gateway.
    """
    with tempfile.TemporaryDirectory() as folder:
        house = House(pathlib.Path(folder), settings or {})
        try:
            house.redis.start()
            if engine is None:
                house.start("inference", "services.inference")
            else:
                port = str(house.ports["inference"])
                house.start("inference", "benchmarks.load.stub", "--port", port, *engine)
            for room in ROOMS:
                house.start(room, gateway if room == "gateway" else f"services.{room}")
            await house.ready((*ROOMS, "inference"))
            yield house
        finally:
            house.stop()
