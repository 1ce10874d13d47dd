"""Is a temperature for each token worth more than its own mean? The arms that answer it.

A residual moves 1/T of a request by its token's entropy: 1/T = 1/T0 + slope (H - centre).
T0 is the task's best temperature behind top-n-sigma on train prompts. For every slope there
are three controls with the same temperatures and without their timing, after "Token-Level
Control or Just a Better Mean?" (COLM 2026):

    mean        the mean of the residual's 1/T on train prompts, for every token
    shuffle     1/T drawn from all that the residual used on train prompts
    binshuffle  likewise, from those it used in the same quarter of entropies
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.policy import judging
from benchmarks.policy.arms import STATIC, Arm, Drawn, Residual, Static
from benchmarks.policy.families import FAMILIES, TRAIN
from benchmarks.policy.judging import difference, one_hot
from benchmarks.policy.matrix import Matrix, parts

SLOPES = (-0.4, -0.2, 0.2, 0.4)
"""Change of 1/T, as a share of 1/T0, for one standard deviation of entropy."""
CONTROLS = ("mean", "shuffle", "binshuffle")
PROMPTS = range(TRAIN - 30, TRAIN + 60)
"""The prompts of each family that are decoded: 30 to tune on, 60 to judge by."""

_POOL, _BINS = 64, 4


def names() -> tuple[str, ...]:
    """Return the names of the arms, the same for every family."""
    return ("base", *(f"{kind} {slope}" for slope in SLOPES for kind in ("residual", *CONTROLS)))


def arms_of(matrix: Matrix, records: Iterable[dict[str, Any]]) -> dict[str, list[Arm]]:
    """Return the arms of each family, from train prompts alone."""
    rewards = parts(matrix.reward)[0][..., : len(STATIC), 0]
    means = judging.task_means(rewards)
    plain = [index for index, arm in enumerate(STATIC) if arm.guard == "top_n_sigma"]
    best = {
        family.name: plain[int(means[row, plain].argmax())] for row, family in enumerate(FAMILIES)
    }
    entropies: dict[str, list[float]] = {family.name: [] for family in FAMILIES}
    for record in records:
        if record["prompt"] < TRAIN:
            for answer in record["answers"]:
                if best[record["family"]] in answer["arms"]:
                    entropies[record["family"]] += answer["entropies"]
    return {
        name: _family(STATIC[index].temperature, np.array(entropies[name]))
        for name, index in best.items()
    }


def _family(base: float, entropies: np.ndarray) -> list[Arm]:
    arms: list[Arm] = [Static(base, "top_n_sigma", "base")]
    edges = tuple(float(each) for each in np.quantile(entropies, np.arange(1, _BINS) / _BINS))
    bins = np.searchsorted(edges, entropies)
    for slope in SLOPES:
        unit = slope / base / max(float(entropies.std()), 1e-6)
        residual = Residual(base, unit, float(entropies.mean()), f"residual {slope}")
        betas = np.array([residual.beta(float(each)) for each in entropies])
        mean = Static(1.0 / float(betas.mean()), "top_n_sigma", f"mean {slope}")
        pools = tuple(
            _pool(betas[bins == place] if (bins == place).any() else betas)
            for place in range(_BINS)
        )
        arms += [
            residual,
            mean,
            Drawn((_pool(betas),), (), f"shuffle {slope}"),
            Drawn(pools, edges, f"binshuffle {slope}"),
        ]
    return arms


def _pool(betas: np.ndarray) -> tuple[float, ...]:
    return tuple(float(each) for each in np.quantile(betas, (np.arange(_POOL) + 0.5) / _POOL))


def row(matrix: Matrix) -> dict[str, Any]:
    """Row 4: the best slope of each task on train prompts against its controls and the base."""
    train, held_out = parts(matrix.reward[..., 0])
    residuals = [index for index, name in enumerate(matrix.arms) if name.startswith("residual")]
    slopes = judging.task_means(train)[:, residuals].argmax(axis=1)
    chosen = np.array(residuals)[slopes]
    count = len(matrix.arms)
    own = judging.values(held_out, one_hot(chosen, count))
    found: dict[str, Any] = {
        "slopes": {family.name: SLOPES[slopes[i]] for i, family in enumerate(FAMILIES)},
        "value": judging.mean_value(own),
    }
    base = judging.values(held_out, one_hot(np.zeros(len(FAMILIES), int), count))
    found["against base"] = difference(own, base).as_dict()
    for offset, control in enumerate(CONTROLS, 1):
        other = judging.values(held_out, one_hot(chosen + offset, count))
        found[f"against {control}"] = difference(own, other).as_dict()
    return found
