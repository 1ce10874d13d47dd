"""What groups of features are worth in reward: a linear choice of the temperature, replayed.

On the study's stored matrix (`benchmarks.policy`): ridge regression from a group of
features to the mean reward of each temperature under top-n-sigma at the full token cap,
on train prompts; held-out prompts are decoded at the temperature it puts highest, and
earn what the matrix stored. Intervals are of the paired gain over the best static
temperature chosen on train (bootstrap by prompt). A family is known to no one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.features import ablation
from benchmarks.policy.__main__ import MATRIX
from benchmarks.policy.families import FAMILIES, TRAIN
from benchmarks.policy.matrix import Matrix
from services.feature.encoder import Encoder
from thermesh.features import INDEX

Floats = NDArray[Any]
PENALTY = 10.0
RESAMPLES = 2000


def measured(encoder: Encoder) -> dict[str, Any]:
    """Return the held-out reward that each group of features earns."""
    rewards = mean_rewards(Matrix.load(MATRIX))  # [families, prompts, temperatures]
    is_train = np.broadcast_to(np.arange(rewards.shape[1]) < TRAIN, rewards.shape[:2]).ravel()
    family = np.repeat(np.arange(len(rewards)), rewards.shape[1])
    y = rewards.reshape(-1, rewards.shape[2])
    decoded = ~np.isnan(y).any(axis=1)  # the study did not decode all of its prompts
    x, y = vectors(encoder, rewards.shape[1])[decoded], y[decoded]
    is_train, family = is_train[decoded], family[decoded]
    static = int(y[is_train].mean(axis=0).argmax())
    held_out = y[~is_train]
    groups = dict(ablation.GROUPS) | {"all": tuple(INDEX)}
    best = np.nanmean(rewards[:, :TRAIN], axis=1).argmax(axis=1)
    chosen = {
        "the family, if it were known": best[family[~is_train]],
        **{name: choices(x[:, columns(each)], y, is_train) for name, each in groups.items()},
    }
    return {
        "train_prompts": int(is_train.sum()),
        "prompts": len(held_out),
        "static_reward": float(held_out[:, static].mean()),
        "gain": {name: gained(held_out, each, static) for name, each in chosen.items()},
    }


def mean_rewards(matrix: Matrix) -> Floats:
    """Return rewards under top-n-sigma, full cap, mean of samples: [families, prompts, T]."""
    arms = [place for place, arm in enumerate(matrix.arms) if arm.startswith("top_n_sigma")]
    rewards = matrix.reward[:, :, :, arms, 0]
    counts = (~np.isnan(rewards)).sum(axis=2)
    return np.asarray(np.nansum(rewards, axis=2) / np.where(counts, counts, np.nan))


def vectors(encoder: Encoder, prompts: int) -> Floats:
    """Return the vector of each prompt's last turn, families one after the other."""
    named = ablation.classifier(encoder)
    texts = [each.text for family in FAMILIES for each in family.prompts()[:prompts]]
    return np.array([ablation.vector(encoder, named, text) for text in texts])


def columns(names: tuple[str, ...]) -> list[int]:
    """Return the places of features in the vector."""
    return [INDEX[name] for name in names]


def choices(x: Floats, y: Floats, is_train: Floats) -> Floats:
    """Return the temperature of most predicted reward for each held-out prompt."""
    scale = x[is_train].std(axis=0)
    scaled = (x - x[is_train].mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0)
    rows, wanted = scaled[is_train], y[is_train]
    level = wanted.mean(axis=0)
    gram = rows.T @ rows + PENALTY * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, rows.T @ (wanted - level))
    return np.asarray((scaled[~is_train] @ weights + level).argmax(axis=1))


def gained(rewards: Floats, chosen: Floats, static: int) -> dict[str, float]:
    """Return the mean gain over `static` and its 95 % interval."""
    gains = rewards[np.arange(len(rewards)), chosen] - rewards[:, static]
    draw = np.random.default_rng(0)
    means = gains[draw.integers(0, len(gains), (RESAMPLES, len(gains)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(gains.mean()), "low": float(low), "high": float(high)}
