"""How far a changed network is from the one it came from, on texts neither was fitted to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from services.inference.models.config import ModelConfig
from services.inference.models.weights import Weights
from services.inference.quantise import forward


@dataclass(frozen=True)
class Divergence:
    """KL(original || changed) of the next token in nats, over all places of the texts."""

    mean: float
    standard_error: float
    """Of the mean, over texts."""
    median: float
    highest_percent: float
    """99 of 100 places have less."""
    same_top: float
    """Share of places where the likeliest token is the same."""

    def as_json(self) -> dict[str, float]:
        """Return the numbers by name."""
        return dataclasses.asdict(self)


class Yardstick:
    """What the original network says of `texts` ([texts, tokens] int64).

    Holds 4 bytes x vocabulary for each token.
    """

    def __init__(self, config: ModelConfig, original: Weights, texts: torch.Tensor) -> None:
        self._config = config
        self._texts = texts
        self.original = [self._log_probabilities(original, text) for text in texts]

    @torch.inference_mode()
    def measure(
        self, changed: Weights, count: int | None = None, config: ModelConfig | None = None
    ) -> Divergence:
        """Compare `changed` with the original, on the first `count` texts or on all.

        `config` has the sizes of `changed` where they are others.
        """
        kls, same = [], []
        for original, found in self.pairs(changed, count, config):
            same.append((found.argmax(-1) == original.argmax(-1)).float().mean())
            kls.append((original.exp() * found.neg_().add_(original)).sum(-1))
        by_text, by_place = torch.stack(kls).mean(-1), torch.cat(kls)
        error = float(by_text.std()) / math.sqrt(len(kls)) if len(kls) > 1 else math.nan
        return Divergence(
            mean=float(by_place.mean()),
            standard_error=error,
            median=float(by_place.median()),
            highest_percent=float(by_place.quantile(0.99)),
            same_top=float(torch.stack(same).mean()),
        )

    def pairs(
        self, changed: Weights, count: int | None = None, config: ModelConfig | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the original's log-probabilities of each text and those of `changed`."""
        for text, original in list(zip(self._texts, self.original, strict=True))[:count]:
            yield original, self._log_probabilities(changed, text, config)

    @torch.inference_mode()
    def _log_probabilities(
        self, weights: Weights, text: torch.Tensor, config: ModelConfig | None = None
    ) -> torch.Tensor:
        logits = forward.logits(config or self._config, weights, text[None])[0]
        return torch.log_softmax(logits, -1)
