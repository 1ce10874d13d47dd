"""Arms of the study: each draws the next token of an answer from one distribution.

`View` is a distribution that was looked at once for all arms. With the same number
in [0, 1) an arm draws what `services.inference.sampling.sampler` draws for the same program
and guard, but for one token in about a million where the float32 sums differ. The rules:

    static     one temperature behind a guard
    EDT        T0 * 0.8^(theta / H), H in nats, nothing cut (arXiv 2403.14541)
    dynatemp   between t - r and t + r by (H / ln candidates)^exponent, over what top-k 40 and
               min-p 0.05 left, as in llama.cpp's default order
    mirostat   version 2: cut surprises (bits) above mu; mu -= eta * (surprise - tau) (ICLR 2021)
    residual   1/T = 1/T0 + slope * (H - centre), only where H is above the gate
    drawn      1/T drawn from a pool, of the token's entropy bin: a residual without its timing
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

LOWEST, HIGHEST = 0.01, 2.0
MIN_P, TOP_K = 0.05, 40
GATE_NATS = 0.2
"""Tokens surer than this are left alone by a residual (about a best probability of 0.95)."""

# Weights below e^-28 of the best add up to less than 10^-7 over 49,152 tokens.
_NEGLIGIBLE = 28.0


class View:
    """One distribution over the vocabulary: `below` is each logit minus the best, float32 [v]."""

    def __init__(self, logits: Floats) -> None:
        self.sigma = float(logits.std(dtype=np.float64))
        self.below = logits - logits.max()
        weights = np.exp(self.below)
        total = float(weights.sum(dtype=np.float64))
        self.log_total = math.log(total)
        self.entropy = self.log_total - float(weights @ self.below) / total

    def log_probability(self, token: int) -> float:
        """Return the model's own log-probability of a token, in nats."""
        return float(self.below[token]) - self.log_total

    @cached_property
    def near(self) -> Floats:
        """Ids within top-n-sigma 1, ascending."""
        return np.flatnonzero(self.below >= -self.sigma)

    @cached_property
    def likely(self) -> Floats:
        """Ids within min-p 0.05, ascending."""
        return np.flatnonzero(self.below >= math.log(MIN_P))

    @cached_property
    def likely_few(self) -> Floats:
        """Ids within top-k 40 and min-p 0.05, ascending."""
        ids = self.likely
        if len(ids) <= TOP_K:
            return ids
        order = np.argsort(-self.below[ids], kind="stable")
        return np.sort(ids[order[:TOP_K]])

    def kept(self, guard: str) -> Floats | None:
        """Return the ids that a guard leaves; None is all."""
        return {"top_n_sigma": self.near, "min_p": self.likely}[guard] if guard != "none" else None

    def drawn(self, ids: Floats | None, temperature: float, unit: float) -> tuple[int, float]:
        """Return (token, its probability as drawn) by inverse CDF in the order of ids."""
        if ids is None and temperature < 0.9:
            ids = np.flatnonzero(self.below >= -_NEGLIGIBLE * temperature)
        scores = self.below if ids is None else self.below[ids]
        weights = np.exp(scores / np.float32(temperature))
        cumulative = np.cumsum(weights, dtype=np.float64)
        position = int(np.searchsorted(cumulative, cumulative[-1] * unit, side="right"))
        position = min(position, len(scores) - 1)
        token = position if ids is None else int(ids[position])
        return token, float(weights[position] / cumulative[-1])


class Arm(Protocol):
    """A way to draw; `state` is what it remembers of one answer, None at its beginning."""

    @property
    def name(self) -> str:
        """Name in the matrix."""
        ...

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Return (token, temperature, new state)."""
        ...


@dataclass(frozen=True)
class Static:
    """One temperature behind a guard: `top_n_sigma`, `min_p` or `none`."""

    temperature: float
    guard: str
    name: str = ""

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Draw at the temperature."""
        token, _ = view.drawn(view.kept(self.guard), self.temperature, unit)
        return token, self.temperature, state


@dataclass(frozen=True)
class Edt:
    """Entropy-based dynamic temperature."""

    base: float
    theta: float

    @property
    def name(self) -> str:
        """Name in the matrix."""
        return f"edt {self.base} {self.theta}"

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Draw at T0 * 0.8^(theta / H)."""
        exponent = self.theta / view.entropy if view.entropy > 0.0 else math.inf
        temperature = max(LOWEST, self.base * 0.8**exponent)
        return view.drawn(None, temperature, unit)[0], temperature, state


@dataclass(frozen=True)
class Dynatemp:
    """llama.cpp's dynamic temperature, exponent 1."""

    middle: float
    width: float

    @property
    def name(self) -> str:
        """Name in the matrix."""
        return f"dynatemp {self.middle} {self.width}"

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Draw at a temperature between the ends, by normalised entropy of the candidates."""
        ids = view.likely_few
        low, high = max(0.0, self.middle - self.width), self.middle + self.width
        temperature = max(LOWEST, low + (high - low) * _normalised_entropy(view.below[ids]))
        return view.drawn(ids, temperature, unit)[0], temperature, state


@dataclass(frozen=True)
class Mirostat:
    """Mirostat 2 at temperature 1; `tau` in bits."""

    tau: float
    eta: float = 0.1

    @property
    def name(self) -> str:
        """Name in the matrix."""
        return f"mirostat {self.tau}"

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Draw among tokens of surprise up to mu, then move mu."""
        mu = 2.0 * self.tau if state is None else state
        ids = np.flatnonzero(view.below >= view.log_total - mu * math.log(2.0))
        if len(ids) == 0:
            ids = np.array([int(view.below.argmax())])
        token, probability = view.drawn(ids, 1.0, unit)
        surprise = -math.log2(max(probability, 1e-30))
        return token, 1.0, mu - self.eta * (surprise - self.tau)


@dataclass(frozen=True)
class Residual:
    """A request's temperature and a correction a token, behind top-n-sigma."""

    base: float
    slope: float
    centre: float
    name: str

    def beta(self, entropy: float) -> float:
        """Return 1/T for a token."""
        moved = self.slope * (entropy - self.centre) if entropy > GATE_NATS else 0.0
        return min(max(1.0 / self.base + moved, 1.0 / HIGHEST), 1.0 / 0.05)

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Draw at the corrected temperature."""
        temperature = 1.0 / self.beta(view.entropy)
        return view.drawn(view.near, temperature, unit)[0], temperature, state


@dataclass(frozen=True)
class Drawn:
    """Draws 1/T from a pool: `pools[i]` serves entropies up to `edges[i]`, the last the rest."""

    pools: tuple[tuple[float, ...], ...]
    edges: tuple[float, ...]
    name: str

    def draw(self, view: View, unit: float, state: Any) -> tuple[int, float, Any]:
        """Draw a temperature, then a token."""
        count = 0 if state is None else state
        pool = self.pools[int(np.searchsorted(self.edges, view.entropy))]
        # a number that depends on the place and not on the token's own
        place = (0.6180339887498949 * (count + 1) + 0.7548776662466927 * unit) % 1.0
        temperature = 1.0 / pool[int(place * len(pool))]
        return view.drawn(view.near, temperature, unit)[0], temperature, count + 1


TEMPERATURES = (0.1, 0.25, 0.4, 0.6, 0.8, 1.0, 1.2)
GUARDS = ("top_n_sigma", "min_p", "none")

STATIC: tuple[Static, ...] = tuple(
    Static(temperature, guard, f"{guard} {temperature}")
    for guard in GUARDS
    for temperature in TEMPERATURES
)
"""The grid of actions that learners choose from."""

RULES: tuple[Arm, ...] = (
    *(
        Edt(*each)
        for each in (
            (0.3, 0.1),
            (0.4, 0.1),
            (0.4, 0.5),
            (0.6, 0.1),
            (0.6, 0.5),
            (0.8, 0.5),
            (0.8, 1.0),
        )
    ),
    *(
        Dynatemp(*each)
        for each in (
            (0.3, 0.2),
            (0.4, 0.4),
            (0.5, 0.3),
            (0.6, 0.6),
            (0.7, 0.3),
            (0.8, 0.5),
            (1.0, 0.5),
        )
    ),
    *(Mirostat(tau) for tau in (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5)),
)
"""Seven settings of each rule that varies by token."""

DEAR = ("none 1.0", "none 1.2")
"""Arms whose answers nobody shares; decoded for one prompt in DEAR_EVERY."""
DEAR_EVERY = 5

ARMS: tuple[Arm, ...] = (*STATIC, *RULES)
BY_NAME = {arm.name: arm for arm in ARMS}


def _normalised_entropy(below: Floats) -> float:
    if len(below) < 2:
        return 0.0
    weights = np.exp(below.astype(np.float64))
    total = float(weights.sum())
    entropy = math.log(total) - float(weights @ below) / total
    return min(1.0, entropy / math.log(len(below)))


def decoded(arms: tuple[Arm, ...], prompt: int) -> tuple[int, ...]:
    """Return the indices of the arms that a prompt is decoded under."""
    return tuple(
        index for index, arm in enumerate(arms) if arm.name not in DEAR or prompt % DEAR_EVERY == 0
    )
