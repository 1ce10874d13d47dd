"""One cell of a grid of actions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Action:
    """One cell of the grid; `guard` is a key of `envelope.GUARDS`, `path` of the wire's."""

    temperature: float
    guard: str = "top_n_sigma"
    cap_share: float = 1.0
    path: str = "standard"

    @property
    def unmeasured(self) -> int:
        """How many members differ from what the prior was measured with."""
        return (self.cap_share != 1.0) + (self.path != "standard")
