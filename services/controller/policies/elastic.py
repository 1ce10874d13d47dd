"""An elastic anchor, so that a stretch of one task does not wear away the others.

    pull = -STRENGTH * F * (theta - theta*)        (Kirkpatrick et al. 2017, diagonal F)

F is the running mean of squared gradients of ln q. theta* and F are taken when
one task begins to dominate the feedback, and pull until none does any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.controller.policies.gaussian import Parameters
from thermesh.features import TASKS

STRENGTH = 0.3
DOMINATES, MIXED = 0.8, 0.6
_RATE = 0.005
_SHARE_RATE = 0.02
_LEAST_SEEN = 200
# The pull is never longer than half the way back, however large F is.
_LONGEST = 0.5


@dataclass(frozen=True, slots=True)
class Elastic:
    """The anchor with its stiffness, and how much of the feedback each task is of late."""

    shares: tuple[float, ...] = (0.0,) * (len(TASKS) + 1)
    seen: int = 0
    dominant: int = -1
    fisher: Parameters | None = None
    anchor: Parameters | None = None
    stiffness: Parameters | None = None

    def observed(self, parameters: Parameters, squares: Parameters, task: int) -> Elastic:
        """Take up one gradient of ln q, squared, of a decision for `task`."""
        shares = [(1.0 - _SHARE_RATE) * share for share in self.shares]
        shares[task] += _SHARE_RATE
        leader = int(np.argmax(shares))
        moved = replace(
            self,
            shares=tuple(shares),
            seen=self.seen + 1,
            fisher=squares
            if self.fisher is None
            else combined(self.fisher, squares, 1.0 - _RATE, _RATE),
        )
        if shares[leader] < MIXED:
            return replace(moved, dominant=-1, anchor=None, stiffness=None)
        if shares[leader] < DOMINATES or leader == self.dominant:
            return moved
        if self.dominant < 0 and self.seen < _LEAST_SEEN:
            return replace(moved, dominant=leader)  # there is nothing yet to forget
        return replace(moved, dominant=leader, anchor=parameters, stiffness=moved.fisher)

    def pulled(self, parameters: Parameters, rate: float) -> Parameters:
        """Return `parameters` after one step of the pull at learning rate `rate`."""
        if self.anchor is None or self.stiffness is None:
            return parameters
        arrays = zip(
            parameters.arrays(), self.anchor.arrays(), self.stiffness.arrays(), strict=True
        )
        return Parameters(
            *(
                theta - np.minimum(rate * STRENGTH * stiff, _LONGEST) * (theta - anchor)
                for theta, anchor, stiff in arrays
            )
        )

    def to_lists(self) -> dict[str, Any]:
        """Return the stored form."""
        held = {
            name: None if getattr(self, name) is None else getattr(self, name).to_lists()
            for name in ("fisher", "anchor", "stiffness")
        }
        return {"shares": self.shares, "seen": self.seen, "dominant": self.dominant, **held}

    @classmethod
    def from_lists(cls, stored: dict[str, Any]) -> Elastic:
        """Undo `to_lists`."""
        held = {
            name: None if stored[name] is None else Parameters.from_lists(stored[name])
            for name in ("fisher", "anchor", "stiffness")
        }
        return cls(tuple(stored["shares"]), stored["seen"], stored["dominant"], **held)


def combined(first: Parameters, second: Parameters, by: float, and_by: float) -> Parameters:
    """Return `by * first + and_by * second`."""
    pairs = zip(first.arrays(), second.arrays(), strict=True)
    return Parameters(*(by * one + and_by * other for one, other in pairs))
