"""What loading a model gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.inference.kernels import CpuNetwork
from services.inference.models.config import ModelConfig
from services.inference.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    # Both import torch, which serving on the C++ kernels does without.
    from services.inference.kernels.triton.network import GpuNetwork
    from services.inference.models.network import Network


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to decode."""

    name: str
    config: ModelConfig
    network: Network | CpuNetwork | GpuNetwork
    tokenizer: Tokenizer
    weight_format: str
    """As stored, e.g. `Q4_1` or `BF16`."""
    parameter_count: int
    created_unix_s: int
    """When the file was last written, seconds since the Unix epoch; 0: unknown."""
