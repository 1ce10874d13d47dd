"""Questions at a rate, whether or not the answers keep up (an open loop).

A client that waits for its answers before it asks again hides what a slow
server does to those who would have come meanwhile ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from benchmarks.load.ways import Answer

Ask = Callable[[], Awaitable[Answer]]


async def offered(ask: Ask, per_second: float, seconds: float, seed: int = 0) -> list[Answer]:
    """Ask at random moments, `per_second` on average, for `seconds`; return every answer.

    Times between questions are exponential (a Poisson process), as of many
    users who know nothing of each other.
    """
    draw = random.Random(seed)
    tasks: list[asyncio.Task[Answer]] = []
    due = time.monotonic()
    end = due + seconds
    while (due := due + draw.expovariate(per_second)) < end:
        await asyncio.sleep(due - time.monotonic())
        tasks.append(asyncio.ensure_future(ask()))
    return await asyncio.gather(*tasks)
