"""A squashed Gaussian that begins where a bandit arrived.

For each task the bias is set so that a request surely of that task is decoded
at the bandit's best temperature in the task's envelope. What the bandit learned
from also counts as learned: sigma is annealed by the same number of feedback,
so the Gaussian refines between the levels of the grid and does not start anew.

    thermesh policy show 12 | tail -n +2 |
        python -m services.controller.policies.warmstart > gaussian.json

reads the parameters of a bandit as JSON and writes those of the Gaussian.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from typing import TextIO

import numpy as np

from services.controller.policies import bandit, gaussian
from services.controller.policies.envelope import envelope_of
from services.controller.policies.gaussian import NEUTRAL, logit
from thermesh.features import INDEX, TASKS

# How near to the ends of the envelope and of the squash a start may lie.
_MARGIN = 0.05
_MOST_OF_SQUASH = 0.95


def warm_started(learned: bandit.Parameters) -> gaussian.Parameters:
    """Return the Gaussian whose mean for each task is the bandit's choice."""
    biases = np.array([_bias(learned, task) for task in TASKS])
    return replace(gaussian.prior(), task_bias=biases)


def _bias(learned: bandit.Parameters, task: str) -> float:
    envelope = envelope_of("", task)
    allowed = bandit.allowed_within(learned.actions, envelope.lower, envelope.upper)
    context = bandit.context_of(task)
    if not any(allowed) or learned.seen[context] == 0:
        return 0.0
    temperature = learned.actions[bandit.best(learned, context, allowed)].temperature
    fraction = (temperature - envelope.lower) / (envelope.upper - envelope.lower)
    wanted = logit(min(max(fraction, _MARGIN), 1.0 - _MARGIN))
    features = NEUTRAL.copy()
    for each in TASKS:
        features[INDEX[f"task_{each}"]] = float(each == task)
    offset = wanted - gaussian.anchor(features, envelope.lower, envelope.upper)
    share = min(max(offset / gaussian.SQUASH, -_MOST_OF_SQUASH), _MOST_OF_SQUASH)
    return gaussian.SQUASH * math.atanh(share)


def convert(source: TextIO, target: TextIO) -> None:
    """Read a bandit's parameters and write a warm Gaussian's; raise ValueError, KeyError or
    TypeError where they are not a bandit's.
    """
    text = source.read()
    learned = bandit.Parameters.from_lists(json.loads(text[text.index("{") :]))
    json.dump(warm_started(learned).to_lists(), target)
    target.write("\n")


if __name__ == "__main__":
    convert(sys.stdin, sys.stdout)
