"""Row 2: what the mesh adds to the time to first token, at 100 requests a second.

Beside it what one hop of grpc.aio adds that passes messages on and does nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.load import house, roofs, ways
from benchmarks.load.figures import Figure, Json, Rounds, added, as_roof, milliseconds
from benchmarks.load.offering import Ask, offered
from benchmarks.spread import interleaved

PER_SECOND = 100.0
SECONDS = 3.0
ENGINE = ("--step-ms", "20", "--prefill-ms", "20")
QUESTION = ways.Question(max_tokens=4)
ROUNDS = 5


class Bench:
    """An open mesh around the stub engine."""

    def __init__(self, asks: dict[str, Ask], mesh: house.House) -> None:
        self._asks = asks
        self._mesh = mesh

    async def round(self, number: int) -> Json:
        """Ask every way at the rate, one after the other, in an order of this round."""
        found: Json = {"first_ms": {}, "cpu_ms": {}}
        for name in interleaved(list(self._asks), 1, seed=number):
            before = self._mesh.cpu_seconds()
            answers = await offered(self._asks[name], PER_SECOND, SECONDS, seed=number)
            spent = self._mesh.cpu_seconds()
            assert all(answer.is_whole for answer in answers), "an answer was not whole"
            found["first_ms"][name] = milliseconds(answer.first_seconds for answer in answers)
            found["cpu_ms"][name] = {
                room: round((spent[room] - before[room]) * 1e3 / len(answers), 3) for room in spent
            }
        return found


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run a mesh around the stub engine, and warm every way to it."""
    async with (
        house.opened(ENGINE) as mesh,
        ways.opened(mesh) as doors,
        roofs.opened(mesh) as roof,
    ):
        asks = doors.asks(QUESTION) | {"hop": lambda: ways.inference(roof.relay, QUESTION)}
        for ask in asks.values():
            await offered(ask, PER_SECOND, 1.0)
        yield Bench(asks, mesh)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge what each door adds, and tell what a bare hop does."""
    samples = [each["first_ms"] for each in rounds]
    judged = [
        found
        for door, title in (("grpc", "gRPC"), ("rest", "REST"))
        for found in added(samples, door, f"added to the first token, {title}", 2.0, 8.0)
    ]
    if not all("hop" in each for each in samples):
        return judged
    hop = added(samples, "hop", "added by a bare hop of grpc.aio", 2.0, 8.0)
    return [*judged, *(as_roof(each) for each in hop)]
