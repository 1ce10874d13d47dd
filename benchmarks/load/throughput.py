"""Row 4: tokens a second through the mesh, one a message and coalesced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds, spread
from benchmarks.spread import interleaved, quantile

Ask = Callable[[], Awaitable[ways.Answer]]
STREAMS = 16
SINGLE_TOKENS, COALESCED_TOKENS = 1_500, 30_000
TOGETHER = 64
ROUNDS = 5
# One token a message as fast as it is read; 64 a message, each stream 12,500 a second,
# so that a token waits 5.1 ms at most for those it travels with.
KINDS = {
    "single": (("--step-ms", "0"), SINGLE_TOKENS),
    "coalesced": (("--step-ms", "0.08", "--tokens-per-message", str(TOGETHER)), COALESCED_TOKENS),
}


class Bench:
    """One mesh for each kind of message."""

    def __init__(self, asks: dict[str, dict[str, Ask]]) -> None:
        self._asks = asks

    async def round(self, number: int) -> Json:
        """Let 16 streams run on every way; tell tokens and messages a second."""
        found: Json = {}
        for kind, asks in self._asks.items():
            for name in interleaved(list(asks), 1, seed=number):
                found[f"{kind} {name}"] = await rate(asks[name])
        return found


async def rate(ask: Ask) -> Json:
    """Return how fast all streams together were, and how the messages looked."""
    began = time.monotonic()
    answers = await asyncio.gather(*(ask() for _ in range(STREAMS)))
    seconds = time.monotonic() - began
    assert all(answer.is_whole for answer in answers), "an answer was not whole"
    tokens = sum(answer.token_count for answer in answers)
    messages = sum(len(answer.arrivals) for answer in answers)
    travels = [each for answer in answers for each in answer.travels]
    return {
        "tokens_per_s": round(tokens / seconds),
        "tokens_per_message": round(tokens / messages, 2),
        "travel_p50_ms": round(quantile(travels, 0.5) * 1e3, 2),
    }


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run both meshes."""
    async with AsyncExitStack() as stack:
        asks = {}
        for kind, (engine, tokens) in KINDS.items():
            settings = {"THERMESH_ENCODER": "none"}
            command = (*engine, "--prefill-ms", "1")
            mesh = await stack.enter_async_context(house.opened(command, settings))
            doors = await stack.enter_async_context(ways.opened(mesh))
            asks[kind] = doors.asks(ways.Question(tokens))
        yield Bench(asks)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge both doors; the engine alone stands beside them."""
    found = []
    for kind, bar in (("single", 20_000), ("coalesced", 150_000)):
        for door in ("grpc", "rest"):
            values = [each[f"{kind} {door}"]["tokens_per_s"] for each in rounds]
            alone = [each[f"{kind} engine"]["tokens_per_s"] for each in rounds]
            size = [each[f"{kind} {door}"]["tokens_per_message"] for each in rounds]
            told = f"{spread(values, ',.0f')}, {spread(size, '.1f')} a message at the client"
            title = f"tokens a second, {kind}, {door} (engine alone: {spread(alone, ',.0f')})"
            found.append((title, f">= {bar:,}", told, sorted(values)[len(values) // 2] >= bar))
    return found
