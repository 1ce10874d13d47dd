"""Networks of random numbers in the shapes of real ones, made on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from services.inference.kernels import Span, StepBatch
from services.inference.kernels.triton.cache import PAGE
from services.inference.kernels.triton.matrix import Matrix
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.weights import DeviceLayer, DeviceWeights
from services.inference.sampling.sampler import Row
from services.inference.sampling.settings import Fixed, Sampling


@dataclass(frozen=True)
class Shape:
    """What a network needs to know of itself; see `ModelConfig`."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate_size: int
    vocabulary_size: int
    context_length: int = 8192
    rms_epsilon: float = 1e-5
    rope_theta: float = 10_000.0


SMALL = Shape(30, 576, 9, 3, 64, 1536, 49152)
"""SmolLM2-135M."""
LARGE = Shape(32, 4096, 32, 8, 128, 14336, 128256)
"""Llama 3.1 8B."""
TINY = Shape(2, 64, 4, 2, 32, 96, 200)
"""For tests of this very code."""

Make = Callable[[int, int], Matrix]


def dense(device: str, dtype: torch.dtype = torch.bfloat16) -> Make:
    """Return a maker of plain matrices."""

    def make(outputs: int, inputs: int) -> Matrix:
        numbers = torch.randn(outputs, inputs, dtype=dtype, device=device)
        return Matrix("dense", numbers.mul_(inputs**-0.5))

    return make


def four_bits(device: str, group: int = 128) -> Make:
    """Return a maker of four-bit matrices."""

    def make(outputs: int, inputs: int) -> Matrix:
        codes = torch.randint(0, 256, (outputs, inputs // 2), dtype=torch.uint8, device=device)
        scale = 0.2 * inputs**-0.5
        scales = torch.full((outputs, inputs // group), scale, dtype=torch.float16, device=device)
        return Matrix("q4", codes, scales, None, group)

    return make


def fp8(device: str) -> Make:
    """Return a maker of FP8 matrices, scaled by rows."""

    def make(outputs: int, inputs: int) -> Matrix:
        codes = torch.randn(outputs, inputs, device=device).to(torch.float8_e4m3fn)
        scales = torch.full((outputs, 1), inputs**-0.5, device=device)
        return Matrix("fp8", codes, scales, None, inputs)

    return make


def random_weights(shape: Shape, attention: Make, ffn: Make, outer: Make) -> DeviceWeights:
    """Return a network's weights: `outer` makes embedding and head, which are one."""
    embedding = outer(shape.vocabulary_size, shape.hidden_size)
    device = embedding.codes.device
    ones = torch.ones(shape.hidden_size, device=device)
    steps = torch.arange(0, shape.head_size, 2, device=device) / shape.head_size
    layers = tuple(_layer(shape, attention, ffn, ones) for _ in range(shape.layers))
    return DeviceWeights(embedding, layers, ones, embedding, shape.rope_theta**-steps)


def _layer(shape: Shape, attention: Make, ffn: Make, ones: torch.Tensor) -> DeviceLayer:
    query = shape.heads * shape.head_size
    joined = query + 2 * shape.kv_heads * shape.head_size
    return DeviceLayer(
        attention_norm=ones,
        query_key_value=attention(joined, shape.hidden_size),
        query_key_value_bias=None,
        query_norm=None,
        key_norm=None,
        attention_output=attention(shape.hidden_size, query),
        attention_output_bias=None,
        feed_forward_norm=ones,
        gate_up=ffn(2 * shape.intermediate_size, shape.hidden_size),
        down=ffn(shape.hidden_size, shape.intermediate_size),
    )


def network(
    shape: Shape, weights: DeviceWeights, operations: ModuleType, kv_dtype: torch.dtype
) -> GpuNetwork:
    """Return the network of random weights."""
    config: Any = shape
    device = weights.norm.device
    return GpuNetwork(config, weights, operations, device, kv_dtype=kv_dtype)


class Streams:
    """Sequences that decode greedily, as the engine would have them do it.

    Pages are given to all at the start, and a sequence that reaches its limit goes
    on at its first position, so that a measurement may take any number of steps.
    """

    def __init__(self, network: GpuNetwork, count: int, context: int) -> None:
        self._network = network
        pages = context // PAGE + 8
        self._cache = network.new_cache(count * pages)
        self._tables = [tuple(range(row * pages, (row + 1) * pages)) for row in range(count)]
        self._first, self._most = context, pages * PAGE - 2
        self._position = context
        self._tokens = [1] * count
        self._rows = [Row(Sampling(Fixed(0.0)), 0, 0) for _ in range(count)]

    def step(self) -> None:
        """Decode one token of each sequence."""
        position, count = self._position, len(self._tokens)
        spans = [Span(row, 1, position + 1, self._tables[row]) for row in range(count)]
        batch = StepBatch(np.array(self._tokens), np.full(count, position), tuple(spans))
        logits = self._network.step(batch, self._cache)
        ends: Sequence[tuple[int, Sequence[int]]] = [
            (position + 1, table) for table in self._tables
        ]
        drawn = self._network.draw(logits, self._rows, ends, self._cache)
        self._tokens = [0 if token is None else token.token_id for token in drawn]
        self._position = position + 1 if position < self._most else self._first
