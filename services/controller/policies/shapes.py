"""What the prior of the grid policy expects of each action, measured.

`prior.json` was made from the train part of the study's reward matrix (docs/control-study.md):
for each task and guard, how much less feedback a temperature earned than the best behind
top-n-sigma. Temperatures between are interpolated, those beyond are taken for the end.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from thermesh.features import TASKS

PRIOR = pathlib.Path(__file__).with_name("prior.json")

Losses = Mapping[str, Mapping[str, Sequence[float]]]


@lru_cache(maxsize=1)
def measured() -> tuple[tuple[float, ...], Losses]:
    """Return the temperatures and the losses by task and guard."""
    stored = json.loads(PRIOR.read_text(encoding="utf-8"))
    return tuple(stored["temperatures"]), stored["losses"]


def expected_loss(task: str, guard: str, temperature: float) -> float:
    """Return what an action is expected to earn beside the best of its task, in feedback.

    A task that is not known (the classifier abstained) expects the mean over all tasks.
    """
    temperatures, losses = measured()
    tasks = [task] if task in losses else [each for each in TASKS if each in losses]
    found = [np.interp(temperature, temperatures, losses[each][guard]) for each in tasks]
    return float(np.mean(found))
