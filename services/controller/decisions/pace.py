"""Fits forecasts to this machine by the factor that outcomes differ from them.

Another processor, other weights or other users make all requests slower or longer by about
one factor. It is learned in this process from the outcomes of its own decisions, and is
lost with it: a few dozen requests later it is there again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from services.controller.decisions.records import Outcome
from services.controller.forecasting.forecast import Forecast, Model, bound, known_high
from services.controller.forecasting.trees import Floats

FIRST_RATE, LAST_RATE = 0.5, 0.05
LARGEST_MISS = math.log(100.0)
REMEMBERED_LIMIT = 10_000


@dataclass(slots=True)
class Pace:
    """The logarithm of a factor: a mean that begins quickly and then follows slowly."""

    logarithm: float = 0.0
    count: int = 0

    def learn(self, expected: float, actual: float) -> None:
        """Take one outcome in; what is not positive says nothing."""
        if expected <= 0.0 or actual <= 0.0:
            return
        self.count += 1
        # one absurd outcome moves it by a bounded step
        miss = min(max(math.log(actual / expected), -LARGEST_MISS), LARGEST_MISS)
        rate = max(LAST_RATE, FIRST_RATE / self.count)
        self.logarithm += rate * (miss - self.logarithm)


class Forecaster:
    """Forecasts requests and learns from how they went. `trained` None: forecasts nothing."""

    def __init__(self, trained: Model | None) -> None:
        self._trained = trained
        self.prefill, self.length, self.total = Pace(), Pace(), Pace()
        self._waiting: OrderedDict[str, Floats] = OrderedDict()

    def forecast(self, features: Floats, model: str) -> Forecast | None:
        """Return what a request to `model` will cost; None where nothing was trained."""
        if self._trained is None:
            return None
        prefill, tokens, high, total = self._trained.logarithms(features).tolist()
        length = self.length.logarithm
        # a pace that was learned from bounded answers must not bound the next ones tighter
        longest = math.exp(max(tokens, high) + max(0.0, length))
        nine_in_ten = known_high(math.exp(max(tokens, high)), self._trained.longest)
        return Forecast(
            prefill_seconds=math.exp(prefill + self.prefill.logarithm),
            output_tokens=round(math.exp(tokens + length)),
            output_tokens_high=round(nine_in_ten * math.exp(length)),
            total_seconds=math.exp(total + self.total.logarithm),
            longest=bound(longest) if self._trained.knows_length(longest, model) else 0,
        )

    def remember(self, decision_id: str, features: Floats) -> None:
        """Keep what learning from the outcome of a decision will need; bounded."""
        if self._trained is None:
            return
        self._waiting[decision_id] = features
        if len(self._waiting) > REMEMBERED_LIMIT:
            self._waiting.popitem(last=False)

    def learn(self, outcome: Outcome) -> None:
        """Learn from the outcome of a decision that is remembered; each counts once."""
        features = self._waiting.pop(outcome.decision_id, None)
        if features is None or self._trained is None:
            return
        prefill, tokens, _, total = np.exp(self._trained.logarithms(features)).tolist()
        prefill_seconds = outcome.prefill_time_us / 1e6
        self.prefill.learn(prefill, prefill_seconds)
        is_whole = outcome.finish_reason in ("stop", "stop_string")
        # one that was cut short was at least so long
        if is_whole or outcome.completion_tokens > tokens:
            self.length.learn(tokens, outcome.completion_tokens)
        if is_whole:
            self.total.learn(total, prefill_seconds + outcome.decode_time_us / 1e6)
