"""The live run: held-out prompts through a running mesh, adaptive and static side by side.

Each prompt is asked twice, one right after the other in random order: once left to the
policy, whose answer a verifier judges and sends as feedback, and once with the best static
temperature pinned. Both stand behind the same guard and the same token limit. The gate on
the likelihood of stories is left open, as the guard cuts the tail of either.

Pairs are appended to a file: a run that was stopped goes on with the prompts that are
missing, and with the policy as far as the mesh has learned meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.policy.families import FAMILIES, PROMPTS, TRAIN, Answer, Family, Prompt
from benchmarks.policy.grids import Grids
from benchmarks.policy.judging import best_static, difference, mean_value
from benchmarks.policy.matrix import LENGTH_WEIGHT, Matrix
from thermesh.errors import FailedPrecondition

AT_ONCE = 3
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How many prompts in all, and for how long in this run."""

    requests: int
    seconds: float


@dataclass(frozen=True)
class Asked:
    """One answer of the mesh and what it was worth."""

    reward: float
    task: str
    temperature: float
    version: int
    is_decided: bool


@dataclass(frozen=True)
class Pair:
    """One held-out prompt of a family (its place in FAMILIES), answered both ways."""

    family: int
    prompt: int
    adaptive: Asked
    static: Asked

    @classmethod
    def from_json(cls, line: str) -> Pair:
        """Undo `json.dumps(asdict(pair))`."""
        stored = json.loads(line)
        ways = {name: Asked(**stored[name]) for name in ("adaptive", "static")}
        return cls(stored["family"], stored["prompt"], **ways)


def pairs_of(path: pathlib.Path) -> list[Pair]:
    """Return the pairs that a file holds; none where there is no file."""
    return [Pair.from_json(each) for each in path.read_text().splitlines()] if path.exists() else []


def wanted(requests: int, have: Iterable[Pair]) -> list[tuple[int, int]]:
    """Return (family, prompt) of what is missing of `requests` held-out prompts, shuffled."""
    generator, each = random.Random("live"), requests // len(FAMILIES)
    chosen = [
        (place, prompt)
        for place in range(len(FAMILIES))
        for prompt in generator.sample(range(TRAIN, PROMPTS), PROMPTS - TRAIN)[:each]
    ]
    generator.shuffle(chosen)
    known = {(pair.family, pair.prompt) for pair in have}
    return [each for each in chosen if each not in known]


async def run(
    address: str, matrix: Matrix, path: pathlib.Path, options: Options, tell: Tell
) -> dict[str, Any]:
    """Ask what is missing, for so long, and return what came of all pairs in `path`."""
    static = static_temperature(matrix)
    asker = Asker(frozenset(tuple(pair) for pair in matrix.about["stock"]), static)
    missing, began = wanted(options.requests, pairs_of(path)), time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    gate, count = asyncio.Semaphore(AT_ONCE), 0
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        with path.open("a") as file:

            async def both(place: int, prompt: int) -> None:
                nonlocal count
                async with gate:
                    if time.monotonic() - began > options.seconds:
                        return
                    pair = await asker.both(client, place, prompt)
                    file.write(json.dumps(asdict(pair)) + "\n")
                    count += 1
                    if count % 20 == 0:
                        tell(f"{count}/{len(missing)}: {time.monotonic() - began:.0f} s")

            await asyncio.gather(*(both(*each) for each in missing))
    return {"static_temperature": static, **summary(pairs_of(path))}


def static_temperature(matrix: Matrix) -> float:
    """Return the temperature that earns most on the train part where it is one for all."""
    grid = Grids.of(matrix).temperatures
    return float(grid.action(matrix, best_static(grid.train)).split()[1])


class Asker:
    """Asks prompts both ways; `stock` is what stories have in common."""

    def __init__(self, stock: frozenset[tuple[str, ...]], static: float) -> None:
        self._stock, self._static = stock, static
        self._order = random.Random("order")
        self._prompts = [family.prompts() for family in FAMILIES]

    async def both(self, client: httpx.AsyncClient, place: int, index: int) -> Pair:
        """Ask one prompt twice, in random order."""
        family, prompt, asked = FAMILIES[place], self._prompts[place][index], {}
        for is_pinned in self._order.sample((True, False), 2):
            temperature = self._static if is_pinned else None
            asked[is_pinned] = await ask(client, family, prompt, self._stock, temperature)
        return Pair(place, index, asked[False], asked[True])


async def ask(
    client: httpx.AsyncClient,
    family: Family,
    prompt: Prompt,
    stock: frozenset[tuple[str, ...]],
    temperature: float | None,
) -> Asked:
    """Ask once; an answer that the policy decided gets the verifier's feedback."""
    body: dict[str, Any] = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": role, "content": text} for role, text in prompt.turns],
        "max_tokens": family.cap,
    }
    if temperature is not None:
        body["temperature"] = temperature
    answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    text, about = answer["choices"][0]["message"]["content"] or "", answer["thermesh"]
    quality = family.verify(Answer(text), {**prompt.known, "stock": stock})
    tokens = answer["usage"]["completion_tokens"]
    reward = quality - LENGTH_WEIGHT * tokens / family.cap
    if temperature is None and about["decision_id"]:
        feedback = {
            "id": f"fb-{uuid.uuid4().hex}",
            "decision_id": about["decision_id"],
            "score": max(-1.0, min(1.0, 2.0 * reward - 1.0)),
            "signal": "verifier",
        }
        received = await client.post("/v1/feedback", json=feedback)
        if received.is_error:
            raise FailedPrecondition(f"feedback was refused: {received.text}")
    plan = about["plan"] or {"task": None, "temperature": float("nan")}
    version = int(about["policy_version"])
    is_decided = bool(about["decision_id"])
    return Asked(reward, plan["task"] or "", float(plan["temperature"]), version, is_decided)


def summary(pairs: list[Pair]) -> dict[str, Any]:
    """Return means and the paired difference with its interval over prompts."""
    rows = [[pair for pair in pairs if pair.family == each] for each in range(len(FAMILIES))]
    own = _rewards([[pair.adaptive for pair in row] for row in rows])
    base = _rewards([[pair.static for pair in row] for row in rows])
    return {
        "prompts": len(pairs),
        "decided": sum(pair.adaptive.is_decided for pair in pairs),
        "adaptive": mean_value(own),
        "static": mean_value(base),
        "against_static": difference(own, base).as_dict(),
        "by_family": {
            family.name: _of_family([pair.adaptive for pair in row], own[place], base[place])
            for place, (family, row) in enumerate(zip(FAMILIES, rows, strict=True))
        },
        "first_version": min(p.adaptive.version for p in pairs if p.adaptive.is_decided),
        "last_version": max(pair.adaptive.version for pair in pairs),
    }


def _rewards(rows: list[list[Asked]]) -> NDArray[np.float64]:
    """Return rewards [families, prompts], NaN where a family has fewer."""
    found = np.full((len(rows), max(map(len, rows))), np.nan)
    for place, row in enumerate(rows):
        found[place, : len(row)] = [each.reward for each in row]
    return found


def _of_family(
    asked: list[Asked], own: NDArray[np.float64], base: NDArray[np.float64]
) -> dict[str, Any]:
    return {
        "adaptive": float(np.nanmean(own)),
        "static": float(np.nanmean(base)),
        "against_static": difference(own[None], base[None]).as_dict(),
        "mean_temperature": float(np.nanmean([each.temperature for each in asked])),
        "tasks_seen": dict(sorted(Counter(each.task for each in asked).items())),
    }
