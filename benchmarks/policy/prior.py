"""The prior of a new installation, from the train part of the stored matrix.

    thermesh bench policy prior        # rewrites services/controller/policies/prior.json

For each task: how much less each guard and temperature earned than the best one behind
top-n-sigma, as feedback (2 R - 1). Held-out prompts have no part in it.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np

from benchmarks.policy.arms import GUARDS, STATIC, TEMPERATURES
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.judging import task_means
from benchmarks.policy.matrix import Matrix, parts

PATH = pathlib.Path(__file__).resolve().parents[2] / "services" / "controller" / "prior.json"


def prior_of(matrix: Matrix) -> dict[str, object]:
    """Return the stored form: losses of each task by guard, along `temperatures`."""
    rewards = parts(matrix.reward)[0][..., : len(STATIC), 0]
    means = task_means(rewards).reshape(len(FAMILIES), len(GUARDS), len(TEMPERATURES))
    best = means[:, GUARDS.index("top_n_sigma")].max(axis=1)
    losses = 2.0 * (means - best[:, None, None])
    return {
        "made_by": "thermesh bench policy prior",
        "model": matrix.about.get("model", ""),
        "model_sha256": matrix.about.get("model_sha256", ""),
        "train_prompts": int((~np.isnan(rewards[..., 0])).any(axis=2).sum()),
        "temperatures": list(TEMPERATURES),
        "losses": {
            family.task: {
                guard: [round(float(each), 4) for each in losses[index, place]]
                for place, guard in enumerate(GUARDS)
            }
            for index, family in enumerate(FAMILIES)
        },
    }


def write(matrix: Matrix, path: pathlib.Path = PATH) -> None:
    """Write the prior as package data."""
    path.write_text(json.dumps(prior_of(matrix), indent=1) + "\n")
