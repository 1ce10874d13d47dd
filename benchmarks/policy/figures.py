"""The figures of the report page, drawn from the study's JSON and the matrix."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np

from benchmarks import machine
from benchmarks.policy.arms import STATIC, TEMPERATURES
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.matrix import Matrix

mpl.use("Agg")
from matplotlib import pyplot as plt  # the back end is chosen first

FOLDER = machine.ROOT / "docs" / "pictures"
_SIZE, _DPI = (7.2, 4.0), 110


def draw(found: dict[str, Any], matrix: Matrix) -> None:
    """Write all figures below docs/pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    _by_temperature(matrix)
    _curves(found)
    _newborn(found)


def _by_temperature(matrix: Matrix) -> None:
    plain = [index for index, arm in enumerate(STATIC) if arm.guard == "top_n_sigma"]
    figure, axes = plt.subplots(figsize=_SIZE)
    for row, family in enumerate(FAMILIES):
        means = np.nanmean(matrix.reward[row][..., plain, 0], axis=(0, 1))
        axes.plot(TEMPERATURES, means, marker="o", label=family.name)
    axes.set(xlabel="temperature, behind top-n-sigma 1", ylabel="mean reward, all prompts")
    _save(figure, axes, "policy-temperature.png")


def _curves(found: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=_SIZE)
    for name, each in found["learned"]["T"].items():
        if "curve" in each:
            axes.plot(np.arange(1, len(each["curve"]) + 1) * 100, each["curve"], label=name)
    axes.set(xlabel="pieces of feedback", ylabel="mean reward, train prompts, 20 seeds")
    _save(figure, axes, "policy-learning.png")


def _newborn(found: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=_SIZE)
    for name, each in found["newborn"]["policies"].items():
        axes.plot(np.arange(1, len(each["curve"]) + 1) * 100, each["curve"], label=name)
    for name, style in (("best_static", ":"), ("best_by_task", "--")):
        label = name.replace("_", " ") + ", in hindsight"
        axes.axhline(found["newborn"][name], color="grey", linestyle=style, label=label)
    axes.set(xlabel="pieces of feedback", ylabel="mean reward, held-out prompts")
    _save(figure, axes, "policy-newborn.png")


def _save(figure: Any, axes: Any, name: str) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(FOLDER / name, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)
