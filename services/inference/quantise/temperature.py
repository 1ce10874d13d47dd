"""By what factor a quantised network's temperature should differ from the original's.

Rounding adds noise to the logits, and with it a network may become surer or less
sure of itself. Whether it does is measured, on texts that the mix was not fitted
to, and twice:

- the *entropy-matched* factor gives the next token the same mean entropy as the
  original's;
- the *divergence-matched* one gives the least mean KL(original || tempered). With
  logits z over a factor f its derivative vanishes where the mean of z under the
  tempered network equals that under the original (an exponential family's maximum
  of likelihood, e.g. Wainwright and Jordan, 2008, section 3.6).

Both are roots of functions that grow with the factor. Each has a percentile
bootstrap's interval (Efron, 1979) over pieces of text, as neighbouring tokens are
not independent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

LOWEST, HIGHEST = 2 / 3, 3 / 2
"""Factors beyond are no calibration but another network."""
PIECE_TOKENS = 64
RESAMPLES = 2000
_LOGARITHMS = np.linspace(np.log(LOWEST), np.log(HIGHEST), 25)

Curves = npt.NDArray[np.float64]
"""[pieces, factors]: what is too much of something at each factor, growing with it."""


@dataclass(frozen=True)
class Factor:
    """A factor on temperature, and the 95 % interval that it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """What a quantised network's temperature should be multiplied by."""

    entropy: Factor
    divergence: Factor

    @property
    def chosen(self) -> float:
        """The divergence-matched factor where it is surely not 1, else 1."""
        is_sure = not self.divergence.low <= 1.0 <= self.divergence.high
        return self.divergence.value if is_sure else 1.0

    def as_json(self) -> dict[str, Any]:
        """Return the numbers by name."""
        named = {"entropy": self.entropy, "divergence": self.divergence}
        return {"factor": self.chosen, **{name: vars(one) for name, one in named.items()}}


def calibrated(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], seed: int = 1) -> Calibration:
    """Compare (original's log-probabilities, changed network's logits), each
    [tokens, vocabulary], one pair for each text.
    """
    curves = [
        _curves(original[start : start + PIECE_TOKENS], changed[start : start + PIECE_TOKENS])
        for original, changed in pairs
        for start in range(0, len(original), PIECE_TOKENS)
    ]
    entropy, divergence = (np.stack(part) for part in zip(*curves, strict=True))
    return Calibration(factor(entropy, seed), factor(divergence, seed))


def factor(curves: Curves, seed: int = 1) -> Factor:
    """Return where the mean of the pieces' curves is 0, with its interval."""
    chosen = np.random.default_rng(seed).integers(len(curves), size=(RESAMPLES, len(curves)))
    roots = [_root(curves[resample].mean(0)) for resample in chosen]
    low, high = np.quantile(roots, (0.025, 0.975))
    return Factor(_root(curves.mean(0)), float(low), float(high))


def _root(curve: npt.NDArray[np.float64]) -> float:
    growing = np.maximum.accumulate(curve)
    return float(np.exp(np.interp(0.0, growing, _LOGARITHMS)))


@torch.inference_mode()
def _curves(original: torch.Tensor, changed: torch.Tensor) -> tuple[Curves, Curves]:
    """Return, at each factor and summed over the tokens, so that a short piece counts
    for less, by how much the entropy exceeds the original's, and by how much the mean
    logit falls short of the mean under the original.
    """
    weights = original.exp()
    wanted_entropy = -(weights * original).sum(-1)
    wanted_logit = (weights * changed).sum(-1)
    entropies, logits = [], []
    for each in np.exp(_LOGARITHMS):
        tempered = changed / each
        total = tempered.logsumexp(-1)
        mean = (tempered.sub_(total[:, None]).exp_() * changed).sum(-1)
        entropies.append(float((total - mean / each - wanted_entropy).sum()))
        logits.append(float((wanted_logit - mean).sum()))
    return np.array(entropies), np.array(logits)
