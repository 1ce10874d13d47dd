"""Row 7: four times as many requests as the engine can serve.

The stub has 32 places and steps of 20 ms, so that what is refused is not what the
machine cannot do. One request in ten is interactive, the rest batch. No setting of
the gateway is touched: the engine says how much it holds.

Beside the refusals what they take from a server that does nothing else: while the mesh serves
what it can, three times as many requests go to one that answers 429 at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from benchmarks.load import house, roofs, ways
from benchmarks.load.figures import Figure, Json, Rounds, as_roof, milliseconds, pooled, spread
from benchmarks.load.offering import offered
from benchmarks.spread import quantile

PLACES, QUEUE = 32, 64
STEP_MS, PREFILL_MS, TOKENS = 20.0, 50.0, 45
CAPACITY = PLACES / ((PREFILL_MS + STEP_MS * TOKENS) / 1e3)
"""Requests a second that the engine alone can serve."""

ENGINE = (
    *("--step-ms", str(STEP_MS), "--prefill-ms", str(PREFILL_MS)),
    *("--places", str(PLACES), "--queue", str(QUEUE)),
)
SECONDS = 6.0
ROUNDS = 5
INTERACTIVE = ways.Question(TOKENS, tenant="people", priority="interactive")
BATCH = replace(INTERACTIVE, tenant="machines", priority="batch")


class Bench:
    """An open mesh around a small stub engine."""

    def __init__(self, doors: ways.Doors, roof: roofs.Roofs) -> None:
        self._interactive = doors.asks(INTERACTIVE)["rest"]
        self._batch = doors.asks(BATCH)["rest"]
        self._refused = lambda: roof.refusing.complete(BATCH)

    async def round(self, number: int) -> Json:
        """Ask alone, at capacity, and at four times of it."""
        alone = await offered(self._interactive, CAPACITY / 10, SECONDS, seed=number)
        peak, _ = await self._both(1.0, number)
        goodput, answers = await self._both(4.0, number)
        refused = [each for each in answers if each.status != 200]
        mine = [each for each in answers if each.status == 200 and each.tenant == "people"]
        return {
            "unloaded": milliseconds(each.first_seconds for each in alone),
            "interactive": milliseconds(each.first_seconds for each in mine),
            "peak_per_s": round(peak, 2),
            "goodput_per_s": round(goodput, 2),
            "refused": len(refused),
            "refused_interactive": sum(each.tenant == "people" for each in refused),
            "refused_badly": sum(
                each.status not in {429, 503} or not each.retry_after for each in refused
            ),
            "refusal": _lasted(refused),
            "roof": _lasted(await self._refused_at_once(number)),
        }

    async def _refused_at_once(self, seed: int) -> list[ways.Answer]:
        """Offer the mesh its capacity, and three times of it to a server that refuses all."""
        _, refused = await asyncio.gather(
            self._both(1.0, seed), offered(self._refused, 3 * CAPACITY, SECONDS, seed=seed + 2)
        )
        return refused

    async def _both(self, times: float, seed: int) -> tuple[float, list[ways.Answer]]:
        """Offer `times` the capacity; return whole answers a second, and all of them."""
        people, machines = await asyncio.gather(
            offered(self._interactive, times * CAPACITY * 0.1, SECONDS, seed=seed),
            offered(self._batch, times * CAPACITY * 0.9, SECONDS, seed=seed + 1),
        )
        for each in people:
            each.tenant = "people"
        answers = [*people, *machines]
        whole = [each for each in answers if each.is_whole]
        first = min(each.asked_at for each in answers)
        last = max(each.ended_at for each in whole)
        return len(whole) / (last - first), answers


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run the mesh and warm it."""
    async with (
        house.opened(ENGINE) as mesh,
        ways.opened(mesh) as doors,
        roofs.opened(mesh) as roof,
    ):
        await offered(doors.asks(INTERACTIVE)["rest"], CAPACITY / 2, 2.0)
        yield Bench(doors, roof)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge goodput, people's first tokens, and refusals."""
    shares = [each["goodput_per_s"] / each["peak_per_s"] for each in rounds]
    slower = pooled(rounds, "interactive", 0.99) / pooled(rounds, "unloaded", 0.99)
    refusal = [each for one in rounds for each in one["refusal"]]
    bad = sum(each["refused_badly"] for each in rounds)
    share = sorted(shares)[len(shares) // 2]
    people = sum(each["refused_interactive"] for each in rounds)
    first = pooled(rounds, "interactive", 0.99)
    return [
        ("goodput at 4x against the peak", ">= 90 %", spread(shares, ".1%"), share >= 0.9),
        (
            f"interactive first token, p99, against unloaded ({people} of them refused)",
            "<= 2x",
            f"{slower:.2f}x, {first:.0f} ms",
            slower <= 2.0,
        ),
        (
            "refusals with 429 or 503 and Retry-After",
            "all",
            f"{len(refusal) - bad} of {len(refusal)}",
            not bad,
        ),
        _refused_after("refused after, p99", refusal),
        *_roof(rounds),
    ]


def _roof(rounds: Rounds) -> list[Figure]:
    samples = [sample for one in rounds for sample in one.get("roof", [])]
    if not samples:
        return []  # measured before there was one
    title = "refused after, p99, by a server that does nothing else"
    return [as_roof(_refused_after(title, samples))]


def _refused_after(title: str, samples: list[float]) -> Figure:
    p50, p99 = quantile(samples, 0.5), quantile(samples, 0.99)
    return title, "<= 5 ms", f"{p99:.2f} ms (p50 {p50:.2f})", p99 <= 5.0


def _lasted(answers: list[ways.Answer]) -> list[float]:
    return milliseconds(each.ended_at - each.asked_at for each in answers)
