"""The weights of a network, repacked losslessly for the C++ kernels.

The matrices lie side by side. Nothing is ever resident twice: each matrix is
asked for once and packed from the file's own bytes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from services.inference.kernels.cpu import memory, native

if TYPE_CHECKING:
    from services.inference.models.config import ModelConfig

QUANTISED = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 8}
KINDS = QUANTISED | {"F16": 1, "BF16": 30}
"""Formats that can be packed, by their numbers in GGML."""

PRECISIONS: dict[str, dict[str, float]] = {
    "full": {},
    "mixed": {"normed_outlier": 4.0, "attended_outlier": math.inf, "gated_outlier": 6.0},
}
"""Which activations have twelve bits instead of eight; see `ThermeshNetwork`.

The figures are in `docs/architecture/kernels-cpu.md`. A second dot product for a
block nearly doubles its cost where arithmetic is the limit (prompts and
batches without AMX), and costs nothing where memory is (one sequence).
"""


class Unsuitable(Exception):
    """The kernels cannot run this network; the message says why."""


@dataclass(frozen=True)
class Blocks:
    """A matrix as its file has it: `rows` is [outputs, bytes of a row] uint8."""

    kind: str
    rows: npt.NDArray[np.uint8]
    columns: int


class Tensors(Protocol):
    """The tensors of a model file by their GGUF names.

    Rotary pairs of queries and keys are halves of a head, as Hugging Face has
    them.
    """

    def kinds(self) -> Mapping[str, str]:
        """Return the format of each matrix."""
        ...

    def matrix(self, name: str) -> Blocks:
        """Return a matrix that is there."""
        ...

    def vector(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return a vector, None where the file lacks it."""
        ...

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """Return the rotary frequencies in radians per position: [head_size / 2]."""
        ...


class Packed:
    """A network's weights in the kernels' layout. Raises Unsuitable.

    `network` points into memory that lives as long as this object.
    """

    def __init__(self, library: Any, config: ModelConfig, tensors: Tensors, precision: str) -> None:
        unknown = sorted(set(tensors.kinds().values()) - set(KINDS))
        if unknown:
            known = ", ".join(KINDS)
            raise Unsuitable(f"weights are stored as {unknown[0]}; the C++ kernels know {known}")
        self._library = library
        self._vectors: list[npt.NDArray[np.float32]] = []
        self._arena = memory.Arena()
        self.matrices = {name: self._pack(tensors.matrix(name)) for name in tensors.kinds()}
        self._layers = (native.Layer * config.layers)(
            *(self._layer(f"blk.{index}.", tensors) for index in range(config.layers))
        )
        self.network = self._network(config, tensors, PRECISIONS[precision])
        if problem := library.thermesh_check(ctypes.byref(self.network)):
            raise Unsuitable(f"the C++ kernels cannot run this network: {problem.decode()}")

    @property
    def byte_count(self) -> int:
        """Bytes of all packed matrices."""
        return self._arena.taken_bytes

    def _byte_count(self, blocks: Blocks) -> int:
        rows, columns = len(blocks.rows), blocks.columns
        count: int = self._library.thermesh_packed_bytes(KINDS[blocks.kind], rows, columns)
        if count == 0:
            raise Unsuitable(f"a matrix of {rows} x {columns} cannot be packed")
        return count

    def _pack(self, blocks: Blocks) -> native.Matrix:
        bytes_ = self._byte_count(blocks)
        address = self._arena.take(bytes_)
        rows = np.ascontiguousarray(blocks.rows)
        kind, (count, columns) = KINDS[blocks.kind], (len(rows), blocks.columns)
        problem = self._library.thermesh_pack(
            kind, rows.ctypes.data, rows.nbytes, count, columns, address, bytes_
        )
        if problem:
            raise Unsuitable(problem.decode())
        return native.Matrix(address, kind, count, columns)

    def _layer(self, prefix: str, tensors: Tensors) -> native.Layer:
        names = {
            "query": "attn_q",
            "key": "attn_k",
            "value": "attn_v",
            "attention_output": "attn_output",
            "gate": "ffn_gate",
            "up": "ffn_up",
            "down": "ffn_down",
        }
        matrices = {key: self.matrices[f"{prefix}{name}.weight"] for key, name in names.items()}
        return native.Layer(**matrices, **dict(self._layer_vectors(prefix, tensors)))

    def _layer_vectors(self, prefix: str, tensors: Tensors) -> Iterator[tuple[str, int | None]]:
        names = {
            "attention_norm": "attn_norm.weight",
            "query_norm": "attn_q_norm.weight",
            "key_norm": "attn_k_norm.weight",
            "attention_output_bias": "attn_output.bias",
            "feed_forward_norm": "ffn_norm.weight",
        }
        for key, name in names.items():
            yield key, self._address(tensors.vector(prefix + name))
        biases = [tensors.vector(f"{prefix}attn_{name}.bias") for name in "qkv"]
        present = [bias for bias in biases if bias is not None]
        yield "query_key_value_bias", self._address(np.concatenate(present) if present else None)

    def _network(
        self, config: ModelConfig, tensors: Tensors, outliers: Mapping[str, float]
    ) -> native.Network:
        embedding = self.matrices["token_embd.weight"]
        return native.Network(
            layers=config.layers,
            hidden_size=config.hidden_size,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_size=config.head_size,
            intermediate_size=config.intermediate_size,
            vocabulary_size=config.vocabulary_size,
            rms_epsilon=config.rms_epsilon,
            inverse_frequencies=self._address(tensors.inverse_frequencies()),
            embedding=embedding,
            head=embedding if config.tied_embeddings else self.matrices["output.weight"],
            norm=self._address(tensors.vector("output_norm.weight")),
            layer=self._layers,
            **outliers,
        )

    def _address(self, vector: npt.NDArray[np.float32] | None) -> int | None:
        """Keep a copy of `vector` and return where it is."""
        if vector is None:
            return None
        if not np.isfinite(vector).all():
            raise Unsuitable("a vector holds numbers that are not finite")
        # Read-only views of a file's bytes need not be aligned; copies are.
        self._vectors.append(np.array(vector, dtype=np.float32))
        return self._vectors[-1].ctypes.data
