"""The third learned policy: upper confidence bounds over the same grid of actions.

    U(a) = mean(a) + WIDTH * spread(a)
    P(a) = (1 - EPSILON) [U(a) is the highest] / ties + EPSILON / actions

The beliefs are the bandit's (`bandit`): with the task as a one-hot context and strangers for
actions they are the ridge means and widths of disjoint LinUCB (Li et al. 2010, algorithm 1),
with kinship those of a Gaussian process (Srinivas et al. 2010). `spread` is the standard
deviation times `Statics.caution`.

Bounds alone choose without chance: every logged propensity would be 1, and the log could
judge no other policy. The floor makes each allowed action possible, with a propensity that
is exact and at least EPSILON / actions. Between two versions the leading action of a task
stays the same; what Thompson sampling explores at once, bounds explore in turns.
"""

from __future__ import annotations

import numpy as np

from services.controller.policies import bandit
from services.controller.policies.bandit import Vector

KIND = "linucb"

EPSILON = 0.02
"""The share of requests that decode at an action drawn evenly, for the sake of the log."""

WIDTH = 2.5
"""Spreads above the mean: 1.5 deviations at the packaged caution, the best of five widths on the
study's train prompts."""


class Parameters(bandit.Parameters):
    """The bandit's beliefs, decided by upper bounds."""

    kind = KIND

    @staticmethod
    def floor(seen: float) -> float:
        """Return EPSILON: bounds settle, and only the floor goes on exploring."""
        del seen
        return EPSILON

    def leading(self, mean: Vector, spread: Vector) -> Vector:
        """Return 1 for the action with the highest bound, [n]; shared where several tie."""
        bounds = mean + WIDTH * spread
        highest = bounds == bounds.max()
        return np.asarray(highest / highest.sum())
