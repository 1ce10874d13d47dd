"""All weights of a network on a device, and a device's share of them.

Quantised files keep their numbers (`matrix`); others become bfloat16. Several
devices share a layer as in Megatron-LM (Shoeybi et al., 2019,
https://arxiv.org/abs/1909.08053): each has some heads and some neurons, so query,
key, value, gate and up are cut by outputs, attention output and down by inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from services.inference.kernels.cpu.packing import Tensors, Unsuitable
from services.inference.kernels.triton.matrix import BLOCK, KINDS, Matrix, from_blocks, joined

if TYPE_CHECKING:
    from services.inference.models.config import ModelConfig
    from services.inference.models.weights import Weights

Vector = torch.Tensor | None


@dataclass(frozen=True)
class DeviceLayer:
    """One layer; vectors are float32, absent ones None."""

    attention_norm: torch.Tensor
    query_key_value: Matrix
    query_key_value_bias: Vector
    query_norm: Vector
    key_norm: Vector
    attention_output: Matrix
    attention_output_bias: Vector
    feed_forward_norm: torch.Tensor
    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True)
class DeviceWeights:
    """One device's weights; embedding and head are whole on each."""

    embedding: Matrix
    layers: tuple[DeviceLayer, ...]
    norm: torch.Tensor
    head: Matrix
    inverse_frequencies: torch.Tensor

    @property
    def byte_count(self) -> int:
        """Bytes of all matrices."""
        tied = self.embedding.codes.data_ptr() == self.head.codes.data_ptr()
        outer = self.head.byte_count + (0 if tied else self.embedding.byte_count)
        names = ("query_key_value", "attention_output", "gate_up", "down")
        inner = (getattr(one, name).byte_count for one in self.layers for name in names)
        return outer + int(sum(inner))


@dataclass(frozen=True)
class Share:
    """Which part of each layer this device has: `rank` of `world`."""

    rank: int = 0
    world: int = 1

    def bounds(self, size: int) -> tuple[int, int]:
        """Return the first and the end of this device's part of `size` things."""
        each = size // self.world
        return self.rank * each, (self.rank + 1) * each

    def check(self, config: ModelConfig) -> None:
        """Raise Unsuitable where heads, neurons or blocks cannot be shared evenly."""
        whole = (config.heads, config.kv_heads, config.intermediate_size // BLOCK)
        widths = (config.heads * config.head_size, config.intermediate_size)
        is_even = all(size % self.world == 0 for size in whole)
        if not is_even or any(width // self.world % BLOCK for width in widths):
            raise Unsuitable(f"its layers cannot be shared evenly by {self.world} devices")


def check(config: ModelConfig, share: Share) -> None:
    """Raise Unsuitable for a network that the kernels cannot run."""
    if config.head_size not in {16, 32, 64, 128, 256}:
        raise Unsuitable(f"heads of {config.head_size}; the Triton kernels know 16 to 256")
    if config.hidden_size % BLOCK or config.intermediate_size % BLOCK:
        raise Unsuitable(f"its sizes are no multiples of {BLOCK}")
    share.check(config)


def from_tensors(
    config: ModelConfig, tensors: Tensors, device: torch.device, share: Share
) -> DeviceWeights:
    """Pack a file's quantised matrices. Raises Unsuitable for other formats."""
    check(config, share)
    unknown = sorted(set(tensors.kinds().values()) - set(KINDS))
    if unknown:
        raise Unsuitable(f"weights are stored as {unknown[0]}; {', '.join(KINDS)} can be packed")
    pieces = Pieces(
        lambda *names: from_blocks([tensors.matrix(name) for name in names]),
        lambda name: vector_of(tensors.vector(name)),
    )
    return built(config, pieces, torch.from_numpy(tensors.inverse_frequencies()), device, share)


def from_weights(
    config: ModelConfig,
    weights: Weights,
    device: torch.device,
    share: Share,
    dtype: torch.dtype = torch.bfloat16,
) -> DeviceWeights:
    """Round float32 weights to `dtype`."""
    check(config, share)
    views = weights.destinations(config)

    def matrix(*names: str) -> Matrix:
        return joined([Matrix("dense", views[name].to(dtype).contiguous()) for name in names])

    pieces = Pieces(matrix, views.get)
    return built(config, pieces, weights.inverse_frequencies, device, share)


@dataclass(frozen=True)
class Pieces:
    """The tensors of a model by their GGUF names; matrices joined by outputs."""

    matrix: Callable[..., Matrix]
    vector: Callable[[str], Vector]


def built(
    config: ModelConfig,
    pieces: Pieces,
    frequencies: torch.Tensor,
    device: torch.device,
    share: Share,
) -> DeviceWeights:
    """Return this device's share of the tensors of a model."""
    embedding = pieces.matrix("token_embd.weight").to(device)
    head = embedding if config.tied_embeddings else pieces.matrix("output.weight").to(device)
    norm = pieces.vector("output_norm.weight")
    assert norm is not None
    return DeviceWeights(
        embedding,
        tuple(_layer(config, pieces, f"blk.{i}.", device, share) for i in range(config.layers)),
        norm.to(device),
        head,
        frequencies.to(device),
    )


def _layer(
    config: ModelConfig, pieces: Pieces, prefix: str, device: torch.device, share: Share
) -> DeviceLayer:
    heads = [config.heads, config.kv_heads, config.kv_heads]
    sizes = [count * config.head_size for count in heads]
    neurons = [config.intermediate_size] * 2
    query = share.bounds(sizes[0])
    names = [f"{prefix}attn_{letter}" for letter in "qkv"]
    joint = pieces.matrix(*(f"{name}.weight" for name in names))
    biases = [pieces.vector(f"{name}.bias") for name in names]
    present = [bias for bias in biases if bias is not None]
    gates = pieces.matrix(f"{prefix}ffn_gate.weight", f"{prefix}ffn_up.weight")

    def vector(name: str) -> Vector:
        found = pieces.vector(prefix + name)
        return None if found is None else found.contiguous().to(device)

    def needed(name: str) -> torch.Tensor:
        found = vector(name)
        assert found is not None
        return found

    return DeviceLayer(
        attention_norm=needed("attn_norm.weight"),
        query_key_value=_parts(joint, sizes, share).to(device),
        query_key_value_bias=_bias(present, sizes, share, device),
        query_norm=vector("attn_q_norm.weight"),
        key_norm=vector("attn_k_norm.weight"),
        attention_output=pieces.matrix(f"{prefix}attn_output.weight").columns(*query).to(device),
        # Added once, where all shares are summed.
        attention_output_bias=vector("attn_output.bias") if share.rank == 0 else None,
        feed_forward_norm=needed("ffn_norm.weight"),
        gate_up=_parts(gates, neurons, share).to(device),
        down=pieces.matrix(f"{prefix}ffn_down.weight")
        .columns(*share.bounds(neurons[0]))
        .to(device),
    )


def _parts(matrix: Matrix, sizes: Sequence[int], share: Share) -> Matrix:
    """Return this device's outputs of matrices of `sizes` below one another."""
    if share.world == 1:
        return matrix
    starts = np.cumsum([0, *sizes[:-1]])
    bounds = [share.bounds(size) for size in sizes]
    pairs = zip(starts.tolist(), bounds, strict=True)
    return joined([matrix.rows(start + low, start + high) for start, (low, high) in pairs])


def _bias(
    present: Sequence[torch.Tensor], sizes: Sequence[int], share: Share, device: torch.device
) -> Vector:
    if not present:
        return None
    cut = [bias[slice(*share.bounds(size))] for bias, size in zip(present, sizes, strict=True)]
    return torch.cat(cut).to(device)


def vector_of(numbers: Any) -> Vector:
    """Copy a vector of a file, whose bytes need not be aligned; refuse what is not finite."""
    if numbers is None:
        return None
    if not np.isfinite(numbers).all():
        raise Unsuitable("a vector holds numbers that are not finite")
    return torch.from_numpy(np.array(numbers, dtype=np.float32))
