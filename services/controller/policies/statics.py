"""The static layer of the grid policy: what neither a schedule nor feedback changes.

A version carries its own, so that a decision is replayed under those that made it. The
defaults were chosen by hand on the train part of the study; `thermesh bench policy tune`
searches for better ones and writes a file. THERMESH_POLICY_STATICS names it for a new
installation; a version of a running one takes it by

    python -m services.controller.policies.statics TUNED.json EXPORTED.json NEXT.json

to be imported and tried like any other.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

RANGES: Mapping[str, tuple[float, float]] = {
    "caution": (0.05, 2.0),
    "first_strength": (0.0, 200.0),
    "last_strength": (0.1, 50.0),
    "half_life": (1.0, 10_000.0),
    "fading": (0.9, 1.0),
    "alarm": (2.0, 100.0),
    "kinship": (0.0, 0.99),
}


@dataclass(frozen=True, slots=True)
class Statics:
    """`caution` scales the spread of beliefs: below 1 explores less than Thompson sampling
    does. `first_strength` to `last_strength`: how many decisions the prior is worth, halfway
    after `half_life` pieces of feedback. `fading`: what is left of old feedback after each
    new one. `alarm`: how much surprise makes a task be learned anew. `kinship`: how much a
    reward says of actions near its own (`kinship`).
    """

    caution: float = 0.6
    first_strength: float = 20.0
    last_strength: float = 2.0
    half_life: float = 50.0
    fading: float = 0.9995
    # without change an alarm of 11 is raised less than once in 10^4 pieces of feedback
    alarm: float = 11.0
    kinship: float = 0.9

    def __post_init__(self) -> None:
        for each in fields(self):
            value, (low, high) = getattr(self, each.name), RANGES[each.name]
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{each.name} must be from {low:g} to {high:g}, not {value!r}")

    @classmethod
    def stored(cls, members: Mapping[str, float]) -> Statics:
        """Return what was stored; what is older than kinship has none, and decides as it did.

        Raises ValueError or TypeError where members do not fit.
        """
        return cls(**{"kinship": 0.0, **members})


DEFAULT = Statics()


def read(path: pathlib.Path) -> Statics:
    """Read `statics` of a result of tuning; raise ValueError, KeyError or TypeError where the
    file holds none, OSError where it cannot be read.
    """
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Statics.stored(stored["statics"])


def applied(content: Mapping[str, Any], statics: Statics) -> dict[str, Any]:
    """Return an exported version (`thermesh policy export`) that decides by `statics`; raise
    ValueError where it is not of a grid.
    """
    parameters = content.get("parameters", {})
    if "actions" not in parameters:
        raise ValueError("only a version over a grid of actions has static parameters of its own")
    return {**content, "parameters": {**parameters, "statics": asdict(statics)}}


def main() -> None:
    """Read a result of tuning and an exported version; write the version that joins them."""
    tuned, version, target = (pathlib.Path(name) for name in sys.argv[1:4])
    joined = applied(json.loads(version.read_text(encoding="utf-8")), read(tuned))
    target.write_text(json.dumps(joined, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
