"""The tensors of a GGUF file as networks want them.

The converter of llama.cpp reorders the rows of query and key matrices of
`llama` files so that rotary pairs lie side by side (`LlamaModel.permute` in
convert_hf_to_gguf.py); here they are halves of a head again, whether the rows
are numbers or quantised blocks. `qwen2` and `qwen3` files keep them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from services.inference.kernels import Blocks
from services.inference.models import gguf_mix, nested
from services.inference.models.config import ModelConfig, inverse_frequencies
from services.inference.models.gguf_file import GgufFile
from services.inference.models.refusal import malformed

FREQUENCY_FACTORS = "rope_freqs.weight"
_PERMUTED = ("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias")


class GgufTensors:
    """The tensors of `file`, which holds exactly those that `config` asks for.

    Or, `is_light`, those that its light path has of its own; their names are those of the
    whole's all the same.
    """

    def __init__(self, file: GgufFile, config: ModelConfig, *, is_light: bool = False) -> None:
        self._file = file
        self._config = config
        begin = nested.OWN if is_light else ""
        self._tensors = {
            name.removeprefix(begin): tensor
            for name, tensor in file.tensors.items()
            if name.startswith(nested.OWN) == is_light
        }
        self.temperature_factor = gguf_mix.temperature_factor(file.path, file.metadata)

    def pieces(self, name: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (first row, rows as float32) of a tensor; together they are all of it."""
        stored = self._tensors[name].name
        for first, rows in self._file.pieces(stored, row_multiple=self._config.head_size):
            if name == "output_norm.weight":
                # Logits are linear in it: so every network, on whatever kernels, is calibrated.
                rows = rows / np.float32(self.temperature_factor)  # noqa: PLW2901
            yield first, self._in_halves(name, rows)

    def has(self, name: str) -> bool:
        """Tell whether there is a tensor of that name."""
        return name in self._tensors

    def kinds(self) -> Mapping[str, str]:
        """Return the format of each matrix by its name."""
        tensors = self._tensors.items()
        return {name: tensor.format for name, tensor in tensors if len(tensor.shape) > 1}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that is there."""
        return self._tensors[name].shape

    def matrix(self, name: str) -> Blocks:
        """Return a matrix as it is stored."""
        tensor = self._tensors[name]
        stored = self._in_halves(name, self._file.stored(tensor.name))
        return Blocks(tensor.format, stored, columns=tensor.shape[-1])

    def vector(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return a vector, None where the file lacks it."""
        if name not in self._tensors:
            return None
        _, numbers = next(self.pieces(name))
        return numbers

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """Return the rotary frequencies in radians per position: [head_size / 2].

        `rope_freqs.weight` divides them: how GGUF stores the llama3 scaling.
        """
        frequencies = inverse_frequencies(self._config)
        if FREQUENCY_FACTORS not in self._file.tensors:
            return frequencies
        shape = self._file.tensors[FREQUENCY_FACTORS].shape
        if shape != frequencies.shape:
            problem = f"tensor {FREQUENCY_FACTORS} has shape {shape}, expected {frequencies.shape}"
            raise malformed(self._file.path, problem)
        _, factors = next(self._file.pieces(FREQUENCY_FACTORS))
        divided: npt.NDArray[np.float32] = frequencies / np.asarray(factors)
        return divided

    def _in_halves(self, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._config.architecture != "llama" or not name.endswith(_PERMUTED):
            return rows
        pairs = rows.reshape(-1, self._config.head_size // 2, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    def in_pairs(self, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return rows of a tensor in the order of the file again."""
        if self._config.architecture != "llama" or not name.endswith(_PERMUTED):
            return rows
        halves = rows.reshape(-1, 2, self._config.head_size // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)
