"""What an engine can do, so that nobody plans what it cannot."""

from __future__ import annotations

from dataclasses import dataclass

PROGRAMS = ("fixed", "edt", "dynatemp", "residual")
GUARDS = ("top_n_sigma", "min_p", "top_p", "top_k")


@dataclass(frozen=True)
class Capabilities:
    """Names of programs, members of a guard and compute paths, as in `common.proto`.

    `can_update`: a running request can be changed. `tells_entropy`: tokens carry
    the entropy of their distribution.
    """

    programs: tuple[str, ...] = PROGRAMS
    guards: tuple[str, ...] = GUARDS
    paths: tuple[str, ...] = ("standard",)
    can_update: bool = True
    tells_entropy: bool = True
