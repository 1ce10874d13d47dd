"""The live run: held-out prompts through a running mesh, adaptive and static side by side.

Each prompt is asked twice, one right after the other in random order: once left to the
policy, whose answer a verifier judges and sends as feedback, and once with the best static
temperature pinned. Both stand behind the same guard and the same token limit. The gate on
the likelihood of stories is left open, as the guard cuts the tail of either.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from benchmarks.policy.families import FAMILIES, TRAIN, Answer, Family, Prompt
from benchmarks.policy.judging import best_static, difference
from benchmarks.policy.matrix import LENGTH_WEIGHT, Matrix
from benchmarks.policy.study import Study
from thermesh.errors import FailedPrecondition

AT_ONCE = 3


@dataclass(frozen=True)
class Asked:
    """One answer of the mesh and what it was worth."""

    reward: float
    task: str
    temperature: float
    version: int
    is_decided: bool


async def run(
    address: str, matrix: Matrix, requests: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Ask `requests` prompts twice each and return what came of it."""
    study = Study(matrix)
    grid = study.temperatures
    static = float(study.action(grid, best_static(grid.train)).split()[1])
    stock = frozenset(tuple(pair) for pair in matrix.about["stock"])
    generator = random.Random("live")
    wanted = [
        (row, family, prompt)
        for row, family in enumerate(FAMILIES)
        for prompt in generator.sample(family.prompts()[TRAIN:], requests // len(FAMILIES))
    ]
    generator.shuffle(wanted)
    gate, began = asyncio.Semaphore(AT_ONCE), time.monotonic()
    pairs: list[tuple[int, Asked, Asked]] = []
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:

        async def both(row: int, family: Family, prompt: Prompt) -> None:
            async with gate:
                asked: dict[bool, Asked] = {}
                for is_pinned in generator.sample((True, False), 2):
                    temperature = static if is_pinned else None
                    asked[is_pinned] = await ask(client, family, prompt, stock, temperature)
                pairs.append((row, asked[False], asked[True]))
                if len(pairs) % 20 == 0:
                    tell(f"{len(pairs)}/{len(wanted)}: {time.monotonic() - began:.0f} s")

        await asyncio.gather(*(both(*each) for each in wanted))
    return {"static_temperature": static, **summary(pairs), "seconds": time.monotonic() - began}


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


def summary(pairs: list[tuple[int, Asked, Asked]]) -> dict[str, Any]:
    """Return means and the paired difference with its interval over prompts."""
    families = range(len(FAMILIES))
    own = np.array([[a.reward for row, a, _ in pairs if row == each] for each in families])
    base = np.array([[b.reward for row, _, b in pairs if row == each] for each in families])
    return {
        "prompts": len(pairs),
        "decided": sum(a.is_decided for _, a, _ in pairs),
        "adaptive": float(own.mean()),
        "static": float(base.mean()),
        "against_static": difference(own, base).as_dict(),
        "by_family": {
            family.name: {
                "adaptive": float(own[row].mean()),
                "static": float(base[row].mean()),
                "mean_temperature": float(
                    np.nanmean([a.temperature for place, a, _ in pairs if place == row])
                ),
                "tasks_seen": {
                    task: sum(a.task == task for place, a, _ in pairs if place == row)
                    for task in sorted({a.task for place, a, _ in pairs if place == row})
                },
            }
            for row, family in enumerate(FAMILIES)
        },
        "first_version": min(a.version for _, a, _ in pairs if a.is_decided),
        "last_version": max(a.version for _, a, _ in pairs),
    }
