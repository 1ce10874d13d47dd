"""Feedback turned round: what the policy truly earns meanwhile, over many seeds.

Each request's true mean reward is compared with what the best static temperature (known
only in hindsight) would have earned on the same request. The bar: no 200 requests on
end whose mean lies more than 0.02 below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.kept import Steps
from benchmarks.trust.users import lived, newborn
from services.controller.learning.lesson import LearnerState

WINDOW, BAR = 200, -0.02
LEARNING = 1000
TENANTS = 10

Flipped = Callable[[int, str], float]


def _tenth_then_all(index: int, _: str) -> float:
    return 0.0 if index < 1000 else 0.1 if index < 2000 else 1.0


def _one_tenant(index: int, tenant: str) -> float:
    return 1.0 if index >= 1000 and tenant == "t0" else 0.0


def _a_third_of_tenants(index: int, tenant: str) -> float:
    return 1.0 if index >= 1000 and tenant in ("t0", "t1", "t2") else 0.0


def _slowly(index: int, _: str) -> float:
    return min(1.0, max(0.0, (index - 1000) / 1000))


def _for_a_while(index: int, _: str) -> float:
    return 1.0 if 1000 <= index < 1500 else 0.0


ATTACKS: Mapping[str, Flipped] = {
    "10 % of all feedback, then all": _tenth_then_all,
    "all feedback of one tenant of ten": _one_tenant,
    "all feedback of three tenants of ten": _a_third_of_tenants,
    "slowly from none to all within 1,000": _slowly,
    "all for 500, then honest again": _for_a_while,
}


def run(flipped: Flipped, seed: int, count: int = 3500) -> dict[str, Any]:
    """Return what one run of `count` requests earned against the best static action."""
    generator, state = np.random.default_rng(seed), LearnerState(newborn())
    gains, alarms = np.zeros(count), []
    for index in range(count):
        tenant = f"t{int(generator.integers(TENANTS))}"
        before = state.memory.guardrail.rollbacks
        step = lived(state, generator, flipped(index, tenant), tenant)
        state, gains[index] = step.state, step.gain
        if state.memory.guardrail.rollbacks > before:
            alarms.append(index)
    windows = np.convolve(gains[LEARNING:], np.ones(WINDOW) / WINDOW, mode="valid")
    return {
        "worst": float(windows.min()),
        "last_500": float(gains[-500:].mean()),
        "alarms": alarms,
        "silenced": state.memory.guardrail.silenced,
    }


def steps(seeds: range) -> Steps:
    """Return every attack over all seeds, as steps."""
    return {name: partial(_ends, flipped, seeds) for name, flipped in ATTACKS.items()}


def _ends(flipped: Flipped, seeds: range) -> dict[str, Any]:
    runs = [run(flipped, seed) for seed in seeds]
    worst = np.array([each["worst"] for each in runs])
    early = [a for each in runs for a in each["alarms"] if a < LEARNING]
    return {
        "runs": len(runs),
        "held": int((worst >= BAR).sum()),
        "worst_of_200": float(worst.min()),
        "median_worst_of_200": float(np.median(worst)),
        "mean_of_last_500": float(np.mean([each["last_500"] for each in runs])),
        "alarms_before_any_attack": len(early),
        "alarms": [each["alarms"] for each in runs],
        "silenced": [each["silenced"] for each in runs],
    }
