"""What the engine that will decode can do; a plan beyond it would teach nothing true."""

from __future__ import annotations

from dataclasses import dataclass

PROGRAMS = ("fixed", "edt", "dynatemp", "residual")
GUARDS = ("top_n_sigma", "min_p", "top_p", "top_k")
PATHS = ("light", "standard", "heavy")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Names of programs, members of a guard and compute paths."""

    programs: tuple[str, ...] = PROGRAMS
    guards: tuple[str, ...] = GUARDS
    paths: tuple[str, ...] = ("standard",)


USUAL = Capabilities()
"""Our own engine on any model: what is assumed where nobody says what decodes."""
