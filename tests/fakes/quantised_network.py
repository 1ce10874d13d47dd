"""Small networks with quantised weights, for the C++ kernels and for the reference."""

import dataclasses

import gguf
import numpy as np
import torch

from services.inference.kernels import Blocks
from services.inference.models import ModelConfig
from services.inference.models.config import inverse_frequencies
from services.inference.models.network import Network
from services.inference.models.weights import Weights

KINDS = {
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
    "Q4_1": gguf.GGMLQuantizationType.Q4_1,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "F16": gguf.GGMLQuantizationType.F16,
    "BF16": gguf.GGMLQuantizationType.BF16,
}
SMALL = ModelConfig("llama", 4096, 200, 2, 64, 4, 2, 32, 96, 10_000.0, 1e-5)


class QuantisedTensors:
    """Random weights, each matrix in one of `kinds` in turn."""

    def __init__(self, config=SMALL, kinds=("Q4_1", "Q8_0", "Q4_0"), seed=0):
        self.config = config
        random = np.random.default_rng(seed)
        with torch.device("meta"):
            views = Weights.allocate(config).destinations(config)
        self._blocks, self._vectors = {}, {}
        for name, view in views.items():
            if view.dim() == 1:
                self._vectors[name] = (1 + 0.1 * random.standard_normal(view.shape)).astype("f4")
                continue
            # Some channels carry much more than others, as in real networks.
            numbers = random.standard_normal(view.shape) * random.lognormal(sigma=0.5)
            kind = kinds[len(self._blocks) % len(kinds)]
            rows = gguf.quants.quantize((numbers / 8).astype("f4"), KINDS[kind])
            self._blocks[name] = Blocks(kind, rows.view(np.uint8), columns=view.shape[1])

    def kinds(self):
        """See `Tensors`."""
        return {name: blocks.kind for name, blocks in self._blocks.items()}

    def matrix(self, name):
        """See `Tensors`."""
        return self._blocks[name]

    def vector(self, name):
        """See `Tensors`."""
        return self._vectors.get(name)

    def inverse_frequencies(self):
        """See `Tensors`."""
        return inverse_frequencies(self.config)

    def replace(self, name, **changes):
        """Change a matrix."""
        self._blocks[name] = dataclasses.replace(self._blocks[name], **changes)

    def reference(self):
        """The same network in plain torch, on the dequantised weights."""
        weights = Weights.allocate(self.config)
        for name, view in weights.destinations(self.config).items():
            if name in self._vectors:
                view.copy_(torch.from_numpy(self._vectors[name]))
            else:
                blocks = self._blocks[name]
                numbers = gguf.quants.dequantize(blocks.rows, KINDS[blocks.kind])
                view.copy_(torch.from_numpy(numbers))
        return Network(self.config, weights)


def closest_prompts(kernels_name):
    """How far prompts may be from float32, as a share of the length of what is compared."""
    # Eight bits, turned, instead of bfloat16.
    return 5e-2 if kernels_name in ("cpu-avx512-bf16", "cpu-avx512-vnni") else 2e-2
