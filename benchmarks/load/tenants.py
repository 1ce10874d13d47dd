"""Row 12: two tenants, one of which floods.

No setting of the gateway is touched: while both want places, each has its fair share
of those that the engine runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds, milliseconds, pooled
from benchmarks.load.offering import offered
from benchmarks.load.overload import CAPACITY, ENGINE, TOKENS

PER_SECOND = 10.0
FLOOD = 4 * CAPACITY
SECONDS = 6.0
ROUNDS = 5
QUIET = ways.Question(TOKENS, tenant="quiet", priority="standard")
NOISY = replace(QUIET, tenant="noisy")


class Bench:
    """An open mesh around a small stub engine."""

    def __init__(self, doors: ways.Doors) -> None:
        self._quiet = doors.asks(QUIET)["rest"]
        self._noisy = doors.asks(NOISY)["rest"]

    async def round(self, number: int) -> Json:
        """Ask alone, and beside the flood."""
        alone = await offered(self._quiet, PER_SECOND, SECONDS, seed=number)
        beside, flood = await asyncio.gather(
            offered(self._quiet, PER_SECOND, SECONDS, seed=number),
            offered(self._noisy, FLOOD, SECONDS, seed=number + 1),
        )
        return {
            "alone": milliseconds(each.first_seconds for each in alone),
            "beside": milliseconds(each.first_seconds for each in beside if each.is_whole),
            "whole_alone": milliseconds(each.ended_at - each.asked_at for each in alone),
            "whole_beside": milliseconds(
                each.ended_at - each.asked_at for each in beside if each.is_whole
            ),
            "refused": sum(each.status != 200 for each in beside),
            "flood_refused": sum(each.status != 200 for each in flood),
        }


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run the mesh and warm it."""
    async with house.opened(ENGINE) as mesh, ways.opened(mesh) as doors:
        await offered(doors.asks(QUIET)["rest"], CAPACITY / 2, 2.0)
        yield Bench(doors)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge the quiet tenant's times."""
    refused = sum(each["refused"] for each in rounds)
    found = []
    for name, before in (("first token", ""), ("whole answer", "whole_")):
        alone = pooled(rounds, f"{before}alone", 0.99)
        beside = pooled(rounds, f"{before}beside", 0.99)
        told = f"{beside / alone:.2f}x, {alone:.0f} to {beside:.0f} ms"
        found.append((f"{name} beside a flood, p99", "<= 1.5x", told, beside <= 1.5 * alone))
    return [*found, ("requests of the quiet tenant refused", "0", str(refused), not refused)]
