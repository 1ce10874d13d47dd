"""Row 3: what the mesh adds to each token, at 64 streams of 20 tokens a second.

The streams step by themselves; `together` has them step at one moment, as an
engine that decodes in batches does, so that 64 tokens reach the mesh at once.
`parted` is the same with the mesh on one core, and client and engine on the other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds, added, milliseconds, thinned
from benchmarks.spread import interleaved

STREAMS = 64
ENGINE = ("--step-ms", "50", "--prefill-ms", "20")
QUESTION = ways.Question(max_tokens=64)
ROUNDS = 5
SKIPPED = 8
"""First tokens of a stream, while the others still begin."""

Ask = Callable[[], Awaitable[ways.Answer]]


class Bench:
    """Two open meshes: whose streams step by themselves, and together."""

    def __init__(self, asks: dict[str, dict[str, Ask]], batching: house.House) -> None:
        self._asks = asks
        self._batching = batching

    async def round(self, number: int) -> Json:
        """Let 64 streams run on every way."""
        found: Json = {}
        for stepping, asks in self._asks.items():
            found[stepping] = await self._all(asks, number)
        if house.can_part():
            with self._batching.parted():
                found["parted"] = await self._all(self._asks["together"], number)
        return found

    async def _all(self, asks: dict[str, Ask], number: int) -> dict[str, list[float]]:
        names = interleaved(list(asks), 1, seed=number)
        return {name: await travels(asks[name], number) for name in names}


async def travels(ask: Ask, seed: int) -> list[float]:
    """Return how long each token of 64 streams was under way, in milliseconds."""
    draw = random.Random(seed)

    async def begun() -> ways.Answer:
        await asyncio.sleep(draw.random() * 0.3)
        return await ask()

    answers = await asyncio.gather(*(begun() for _ in range(STREAMS)))
    assert all(answer.is_whole for answer in answers), "an answer was not whole"
    return thinned(milliseconds(t for answer in answers for t in answer.travels[SKIPPED:]))


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run both meshes."""
    async with AsyncExitStack() as stack:
        asks = {}
        for stepping, more in (("apart", ()), ("together", ("--together",))):
            settings = {"THERMESH_ENCODER": "none"}
            mesh = await stack.enter_async_context(house.opened((*ENGINE, *more), settings))
            doors = await stack.enter_async_context(ways.opened(mesh))
            asks[stepping] = doors.asks(QUESTION)
        yield Bench(asks, mesh)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge what each door adds."""
    found = []
    for door, title in (("grpc", "gRPC"), ("rest", "REST")):
        apart = [each["apart"] for each in rounds]
        found += added(apart, door, f"added to a token, {title}", 1.5, 6.0)
        together = [each["together"] for each in rounds]
        found += added(together, door, f"added to a token, {title}, all step at once", 1.5, 6.0)
        if parted := [each["parted"] for each in rounds if "parted" in each]:
            told = f"added to a token, {title}, all step at once, client on another core"
            found += added(parted, door, told, 1.5, 6.0)
    return found
