"""The shape of a Llama-family network, whatever file it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RopeScaling:
    """How a model stretches its rotary frequencies to a longer context."""

    kind: str
    """`linear`: all frequencies divided by `factor` (Chen et al., 2023,
    https://arxiv.org/abs/2306.15595); `llama3`: only the low ones (below)."""
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context_length: int = 8192


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a network; the booleans say which tensors it has."""

    architecture: str
    context_length: int
    vocabulary_size: int
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate_size: int
    rope_theta: float
    rms_epsilon: float
    rope_scaling: RopeScaling | None = None
    tied_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False

    def problem(self) -> str | None:
        """Return what is impossible about these sizes, None where nothing is.

        The limits are far above every published model; they keep a broken file
        from asking for absurd memory.
        """
        limits = {
            "context_length": (1, 1 << 27),
            "vocabulary_size": (1, 1 << 24),
            "layers": (1, 4096),
            "hidden_size": (1, 1 << 20),
            "heads": (1, 4096),
            "kv_heads": (1, 4096),
            "head_size": (2, 4096),
            "intermediate_size": (1, 1 << 22),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                return f"{name} is {getattr(self, name)}, expected {low} to {high}"
        if self.heads % self.kv_heads:
            return f"heads ({self.heads}) is no multiple of kv_heads ({self.kv_heads})"
        if self.head_size % 2:
            return f"head_size ({self.head_size}) is odd, rotary embedding needs pairs"
        return self._problem_of_constants()

    def _problem_of_constants(self) -> str | None:
        factor = 1.0 if self.rope_scaling is None else self.rope_scaling.factor
        constants = {
            "rope_theta": self.rope_theta,
            "rms_epsilon": self.rms_epsilon,
            "rope scaling factor": factor,
        }
        for name, value in constants.items():
            if not (math.isfinite(value) and value > 0):
                return f"{name} is {value}, expected a number above 0"
        return None


def inverse_frequencies(config: ModelConfig) -> npt.NDArray[np.float32]:
    """Return the rotary frequencies in radians per position: [head_size / 2]."""
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    # In double, as nobody's power of floats is the same to the last bit.
    powers = np.power(config.rope_theta, exponents.astype(np.float64))
    frequencies = np.float32(1.0) / powers.astype(np.float32)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / np.float32(scaling.factor)
    return _llama3(frequencies, scaling)


def _llama3(frequencies: npt.NDArray[np.float32], scaling: RopeScaling) -> npt.NDArray[np.float32]:
    """Slow down the waves longer than the original context, keep the short ones.

    Between the two bounds it interpolates: Llama 3.1 reference code,
    `apply_scaling` in meta-llama/llama-models (models/llama3/model.py).
    """
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    slowed = (1 - kept) * frequencies / scaling.factor + kept * frequencies
    return np.asarray(slowed)
