"""What a request will cost, before a token is decoded: prefill, length of the answer, all of it.

Gradient-boosted trees (Friedman 2001) over the complexity of a request, trained offline on
real decodes (`python -m benchmarks.features forecast`) and shipped as `forecast.json`. Each
output is a quantile of a logarithm: the median of prefill seconds, of answer tokens and of
total seconds, and the length that nine answers in ten stay below. Seconds are those of the
machine that was measured; `pace` fits them to this one.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from services.controller.forecasting.trees import Floats, Forest
from thermesh.features import FEATURES, SCHEMA_VERSION

FILE = pathlib.Path(__file__).with_name("forecast.json")
OUTPUTS = ("prefill_seconds", "output_tokens", "output_tokens_high", "total_seconds")

LENGTH_MARGIN, LEAST_BUDGET = 3, 64
"""A bound on the budget is so many times the length of nine answers in ten, and never lower."""

KNOWN_SHARE = 0.75
"""Where nine answers in ten reach so much of the longest decoded in training, their true
length is not known, and nothing is bounded by it."""

_GREATEST = 20.0  # e^20 seconds or tokens: beyond every bound, and no overflow


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one request alone on the machine is expected to cost; `longest` is the token
    budget that is surely enough, 0 where that is not known.
    """

    prefill_seconds: float
    output_tokens: int
    output_tokens_high: int
    total_seconds: float
    longest: int = 0


@dataclass(frozen=True, eq=False)
class Model:
    """The trees of OUTPUTS, trained on answers of `model` of at most `longest` tokens."""

    forest: Forest
    model: str
    longest: int

    def logarithms(self, features: Floats) -> Floats:
        """Return the natural logarithm of each output, [outputs]."""
        return np.minimum(self.forest.predict(features), _GREATEST)

    def knows_length(self, high_tokens: float, model: str) -> bool:
        """Tell whether a length of nine answers in ten may bound those of `model`."""
        return model == self.model and high_tokens < KNOWN_SHARE * self.longest


def known_high(high_tokens: float, longest: int) -> float:
    """Return the length of nine answers in ten, `longest` where training cut too many off."""
    return high_tokens if high_tokens < KNOWN_SHARE * longest else max(high_tokens, longest)


def bound(high_tokens: float) -> int:
    """Return the token budget that is surely enough."""
    return max(LEAST_BUDGET, round(LENGTH_MARGIN * high_tokens))


@lru_cache(maxsize=1)
def shipped(path: pathlib.Path = FILE) -> Model | None:
    """Return the shipped trees; None where there are none for this schema of features."""
    if not path.exists():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    forest = Forest.from_lists(stored["forest"])
    fits = len(forest.base) == len(OUTPUTS) and forest.inputs <= len(FEATURES)
    if stored["schema_version"] != SCHEMA_VERSION or not fits:
        return None
    return Model(forest, stored["model"], stored["longest"])
