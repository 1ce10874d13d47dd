"""Row 5: a client that goes, by each way and in each phase, until its KV blocks are free.

The real engine with one place, so that a second request waits. Whether it is free is
asked of the engine again and again, so what is measured is a question (about a
millisecond) too long rather than too short.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds
from benchmarks.spread import quantile
from thermesh.cli import mesh as source
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

HOWS = ("SSE abort", "gRPC cancel", "kill -9, SSE", "kill -9, gRPC")
PHASES = ("queue", "prefill", "decode")
ENGINE_SETTINGS = {"THERMESH_MAX_RUNNING": "1", "THERMESH_PREFIX_CACHE": "false"}
SHORT_WORDS, LONG_WORDS = 20, 900
REPEATS = 2
"""Of each way in each phase a round."""

ROUNDS = 5
PHASE_SECONDS = 20.0


class Bench:
    """An open mesh around the real engine."""

    def __init__(self, mesh: house.House, doors: ways.Doors) -> None:
        self._mesh, self._doors = mesh, doors
        self._stub = inference_pb2_grpc.InferenceServiceStub(doors.engine)

    async def round(self, number: int) -> Json:
        """Let a client go in every way and phase, some times each."""
        found: Json = {}
        cells = [(phase, how) for phase in PHASES for how in HOWS] * REPEATS
        random.Random(number).shuffle(cells)
        for phase, how in cells:
            samples = found.setdefault(f"{phase}, {how}", {"ms": [], "step_ms": []})
            while (sample := await self._sample(phase, how)) is None:
                pass
            seconds, step = sample
            samples["ms"].append(round(seconds * 1e3, 2))
            samples["step_ms"].append(round(step * 1e3, 2))
        return found

    async def _sample(self, phase: str, how: str) -> tuple[float, float] | None:
        """Return the seconds from going until all is free, and those of the engine's step.

        None where the answer had ended by itself.
        """
        await self._until(lambda load: not (load.running or load.waiting or load.kv_pages_used))
        async with contextlib.AsyncExitStack() as stack:
            if phase == "queue":
                await stack.enter_async_context(self._blocking())
            go = await self._asked(stack, how, LONG_WORDS if phase == "prefill" else SHORT_WORDS)
            if phase == "queue":
                await self._until(lambda load: load.waiting == 1)
            else:
                await self._until(lambda load: load.running == 1 and load.kv_pages_used > 0)
                await asyncio.sleep(random.random() * 0.05 + (0.3 if phase == "decode" else 0.0))
            before = await self._load()
            began = time.monotonic()
            go()
            if not before.running:
                return None
            if phase == "queue":
                load = await self._until(lambda load: load.waiting == 0)
            else:
                load = await self._until(lambda load: not (load.running or load.kv_pages_used))
            return time.monotonic() - began, max(before.step_time_us, load.step_time_us) / 1e6

    async def _asked(
        self, stack: contextlib.AsyncExitStack, how: str, words: int
    ) -> Callable[[], None]:
        """Ask as `how` says; return what makes the client go."""
        if how.startswith("kill"):
            door = "rest" if how.endswith("SSE") else "grpc"
            ports = (str(self._mesh.ports["http"]), self._mesh.target("gateway"))
            command = (sys.executable, "-P", "-m", "benchmarks.load.victim", door, *ports)
            environ = source.with_source_tree(os.environ)
            process = await asyncio.create_subprocess_exec(*command, str(words), env=environ)
            stack.push_async_callback(process.wait)

            def kill() -> None:
                with contextlib.suppress(ProcessLookupError):  # its answer had ended
                    os.kill(process.pid, signal.SIGKILL)

            return kill
        question = long_question(words)
        if how == "SSE abort":
            stream = await self._doors.rest.open(question)

            def abort() -> None:  # keeps both ends: a stream whose reader is collected aborts
                stream[1].transport.abort()

            return abort
        task = asyncio.ensure_future(ways.converse(self._doors.gateway, question))
        stack.push_async_callback(asyncio.wait, [task])

        def cancel() -> None:
            task.cancel()

        return cancel

    @asynccontextmanager
    async def _blocking(self) -> AsyncIterator[None]:
        """Take the engine's one place for a while."""
        task = asyncio.ensure_future(ways.inference(self._doors.engine, long_question(20)))
        await self._until(lambda load: load.running == 1)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _until(self, holds: Callable[[Any], Any]) -> common_pb2.LoadReport:
        deadline = time.monotonic() + PHASE_SECONDS
        while not holds(load := await self._load()):
            assert time.monotonic() < deadline, f"the engine did not come there: {load}"
        return load

    async def _load(self) -> common_pb2.LoadReport:
        answer = await self._stub.GetLoad(inference_pb2.GetLoadRequest(), timeout=5)
        load: common_pb2.LoadReport = answer.load
        return load


def long_question(words: int) -> ways.Question:
    """Return a question of about so many words, whose answer would be long."""
    text = " ".join(str(random.randrange(10, 99)) for _ in range(words))
    padding = f" Continue these numbers without end: {text}"
    return ways.Question(4_000, padding=padding, model=house.REAL_MODEL, endless=True)


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run the mesh with the real engine."""
    async with house.opened(None, ENGINE_SETTINGS) as mesh, ways.opened(mesh) as doors:
        bench = Bench(mesh, doors)
        await ways.inference(doors.engine, ways.Question(8))
        yield bench


def figures(rounds: Rounds) -> list[Figure]:
    """Judge each phase: what a client's going took beyond one step of the engine."""
    found = []
    for phase in PHASES:
        beyond = [
            ms - step
            for each in rounds
            for name, cell in each.items()
            if name.startswith(phase)
            for ms, step in zip(cell["ms"], cell["step_ms"], strict=True)
        ]
        p50, p99 = quantile(beyond, 0.5), quantile(beyond, 0.99)
        told = (
            f"{p99:.1f} ms beyond a step (p50 {p50:.1f}, most {max(beyond):.1f}, n = {len(beyond)})"
        )
        found.append((f"client gone in {phase}, p99", "<= 50 ms + 1 step", told, p99 <= 50.0))
    return found
