"""How to draw a token, as values: programs, guards and penalties.

Their meaning and ranges are those of `thermesh/v1/common.proto`; `wire` checks
the ranges, so everything here is already valid.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

MINIMUM_TEMPERATURE = 0.1
MAXIMUM_TEMPERATURE = 2.0

# theta of EDT on short answers, and the exponent that leaves dynatemp linear.
_EDT_THETA = 0.1
_DYNATEMP_RANGE = 0.1
_DYNATEMP_EXPONENT = 1.0
# A correction of 20 % of 1/T a nat, cooler where the token is unsure; the centre is about
# the mean entropy of short answers.
_RESIDUAL_SHARE, _RESIDUAL_CENTRE, _RESIDUAL_RANGE = 0.2, 1.0, 0.1

ProgramKind = Literal["fixed", "edt", "dynatemp", "residual"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """One temperature for every token; 0 is greedy."""

    temperature: float


@dataclass(frozen=True, slots=True)
class Edt:
    """Entropy-based dynamic temperature (arXiv 2403.14541); theta in nats."""

    base_temperature: float
    theta: float


@dataclass(frozen=True, slots=True)
class Dynatemp:
    """llama.cpp's dynamic temperature: `temperature` plus and minus `range`."""

    temperature: float
    range: float
    exponent: float


@dataclass(frozen=True, slots=True)
class Residual:
    """A temperature corrected by each token's entropy: 1/T by `slope` a nat from `centre`
    on, T at most by `range`.
    """

    temperature: float
    slope: float
    centre: float
    range: float


Program = Fixed | Edt | Dynatemp | Residual


@dataclass(frozen=True, slots=True)
class Guard:
    """What cuts the tail of the distribution; None: not in use."""

    top_n_sigma: float | None = None
    min_p: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def only(self, members: Collection[str]) -> Guard:
        """Return this guard without what is not in `members`."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        return Guard(**{name: value for name, value in kept.items() if name in members})

    def or_else(self, other: Guard) -> Guard:
        """Return this guard with the members it leaves out taken from `other`."""
        if self == NO_GUARD:
            return other  # as most users leave it
        chosen = {
            member.name: getattr(other, member.name)
            if getattr(self, member.name) is None
            else getattr(self, member.name)
            for member in fields(self)
        }
        return Guard(**chosen)


NO_GUARD = Guard()


@dataclass(frozen=True, slots=True)
class Penalties:
    """What lowers the logits of tokens that were used before."""

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0


NO_PENALTIES = Penalties()


@dataclass(frozen=True, slots=True)
class Sampling:
    """Everything the sampler needs to draw one token."""

    program: Program
    guard: Guard = field(default_factory=Guard)
    penalties: Penalties = field(default_factory=Penalties)
    logit_bias: Mapping[int, float] = field(default_factory=dict)


def program_at(kind: ProgramKind, temperature: float) -> Program:
    """Return the program of `kind` that works at or around `temperature`."""
    if kind == "edt":
        return Edt(temperature, _EDT_THETA)
    if kind == "dynatemp":
        return Dynatemp(temperature, _DYNATEMP_RANGE, _DYNATEMP_EXPONENT)
    if kind == "residual":
        slope = _RESIDUAL_SHARE / max(temperature, MINIMUM_TEMPERATURE)
        return Residual(temperature, slope, _RESIDUAL_CENTRE, _RESIDUAL_RANGE)
    return Fixed(temperature)
