"""Row 6: tens of thousands of streams that are cancelled, and what they leave.

Half come by gRPC and half by SSE; one in three leaves before anything was said, one
after the first token, one in the middle. The stub engine decodes; the gateway is
looked into before, after a warm-up, and at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds
from thermesh.testing import eventually
from thermesh.v1 import inference_pb2, inference_pb2_grpc

ENGINE = ("--step-ms", "20", "--prefill-ms", "20")
QUESTION = ways.Question(max_tokens=64)
WARM_UP, COUNT = 5_000, 50_000
AT_ONCE = 48
ROUNDS = 1
LONGEST_SECONDS = 0.12
PAUSE_SECONDS = 0.12
"""After each, so that what is measured is what is left behind and not what is still to be
done: to open and abort costs a client a fraction of what it costs the gateway."""

SETTLING_SECONDS = 60


class Bench:
    """An open mesh whose gateway can be looked into."""

    def __init__(self, mesh: house.House, doors: ways.Doors, told: pathlib.Path) -> None:
        self._mesh, self._doors, self._told = mesh, doors, told

    async def round(self, number: int, count: int = COUNT, warm_up: int = WARM_UP) -> Json:
        """Cancel `count` streams after the warm-up."""
        idle = await self._look()
        await self._cancel(warm_up, number)
        before = await self._look()
        await self._cancel(count, number + 1)
        after = await self._look()
        return {"count": count, "idle": idle, "before": before, "after": after}

    async def _cancel(self, count: int, seed: int) -> None:
        draw = random.Random(seed)
        left = iter(range(count))

        async def one_after_another() -> None:
            for _ in left:
                ask = self._doors.asks(QUESTION)[draw.choice(("grpc", "rest"))]
                patience = draw.choice((0.0, 0.03, LONGEST_SECONDS))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience * draw.random()):
                        await ask()
                await asyncio.sleep(PAUSE_SECONDS)

        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))

    async def _look(self) -> Json:
        """Wait until engine and gateway are idle, then ask the gateway what it holds.

        A gateway that does not become idle is told as it is.
        """
        stub = inference_pb2_grpc.InferenceServiceStub(self._doors.engine)

        async def is_empty() -> bool:
            answer = await stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=5)
            return bool(answer.load.running == 0)

        await eventually(is_empty, 30, "an empty engine")
        await self._doors.rest.close()
        for _ in range(SETTLING_SECONDS):
            await asyncio.sleep(1.0)
            found = await self._ask()
            if not found["Turn"]:
                break
        return found

    async def _ask(self) -> Json:
        self._told.unlink(missing_ok=True)
        process = self._mesh.process("gateway")
        process.send_signal(signal.SIGUSR1)
        await eventually(self._told.exists, 30, "an answer of the gateway")
        memory = {"rss_mib": round(process.memory_info().rss / 2**20, 2)}
        found: Json = json.loads(self._told.read_text())
        return found | memory | {"descriptors": process.num_fds()}


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run the mesh with a gateway that can be looked into."""
    settings = {"THERMESH_ENCODER": "none", "THERMESH_LOG_LEVEL": "WARNING"}
    async with (
        house.opened(ENGINE, settings, gateway="benchmarks.load.watched") as mesh,
        ways.opened(mesh) as doors,
    ):
        yield Bench(mesh, doors, mesh.folder / house.WATCH_FILE)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge what is left."""
    found = []
    for each in rounds:
        before, after = each["before"], each["after"]
        grown = after["rss_mib"] - before["rss_mib"]
        told = f"{grown:+.2f} MiB, from {before['rss_mib']:.1f}"
        title = f"memory after {each['count']:,} cancelled streams"
        found.append((title, "<= +5 MB", told, grown * 2**20 <= 5e6))
        for name, noun in (
            ("Turn", "turns"),
            ("OpenGeneration", "calls"),
            ("Span", "spans"),
        ):
            found.append((f"{noun} alive", "0", str(after[name]), after[name] == 0))
        # The connections to the neighbours are made by the first requests and kept.
        for name in ("tasks", "descriptors"):
            more = after[name] - before[name]
            found.append((f"{name} more than warm", "0", f"{more:+d}", more <= 0))
    return found
