"""What a network is worth on texts that it was not trained on."""

from __future__ import annotations

import math
from typing import Any

import torch

from services.inference.models import nested_weights
from services.inference.models.config import ModelConfig
from services.inference.models.nested import Prefix
from services.inference.models.weights import Weights
from services.inference.quantise import forward
from services.inference.quantise.divergence import Yardstick


class Judge:
    """Compares networks with the original, on `texts` ([texts, tokens] int64).

    The second half of the texts, rounded up, was written by people, and perplexity
    is of it alone: a model is never surprised by what it wrote itself.
    """

    def __init__(self, config: ModelConfig, original: Weights, texts: torch.Tensor) -> None:
        self._config = config
        self._written = texts[len(texts) // 2 :]
        self._yardstick = Yardstick(config, original, texts)
        self.original = {"perplexity": perplexity(config, original, self._written)}

    def path(self, weights: Weights, path: Prefix) -> dict[str, Any]:
        """Return divergence and perplexity of a path through `weights`."""
        with torch.no_grad():
            cut = nested_weights.cut(weights, self._config, path)
        return self.judged(cut, path.config(self._config))

    def judged(self, weights: Weights, config: ModelConfig | None = None) -> dict[str, Any]:
        """Return divergence and perplexity of `weights`; `config` where sizes are others."""
        config = config or self._config
        found = self._yardstick.measure(weights, config=config)
        return {
            "divergence": found.as_json(),
            "perplexity": perplexity(config, weights, self._written),
        }


@torch.inference_mode()
def perplexity(config: ModelConfig, weights: Weights, texts: torch.Tensor) -> float:
    """Return exp of the mean surprise at each next token of `texts`."""
    surprises = []
    for text in texts:
        logits = forward.logits(config, weights, text[None])[0, :-1]
        surprises.append(torch.nn.functional.cross_entropy(logits, text[1:]))
    return math.exp(float(torch.stack(surprises).mean()))
