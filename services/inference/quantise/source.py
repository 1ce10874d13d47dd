"""The model to quantise: its file, its weights as float32, and how a mix of it is written."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gguf
import numpy as np
import torch

from services.inference.kernels import Blocks
from services.inference.models import gguf_mix, gguf_model, group_codes, nested, plain
from services.inference.models.gguf_file import GgufFile
from services.inference.models.gguf_tensors import GgufTensors
from services.inference.models.group_codes import GroupFormat, Rows
from services.inference.models.refusal import unsupported
from services.inference.models.weights import Weights
from services.inference.quantise.allocation import Mix

_SET_BY_WRITER = ("general.architecture", "general.alignment")
_LEFT_OUT = (*_SET_BY_WRITER, "general.file_type")
"""Metadata that the writer sets itself, or that is true no longer."""

Stored = tuple[Rows, GroupFormat]
"""A matrix as codes of groups."""


class Source:
    """A GGUF file that is not a mix itself. Raises like `models.load`."""

    def __init__(self, path: pathlib.Path) -> None:
        if path.is_dir():
            raise unsupported(path, "folders of safetensors cannot be quantised, GGUF files can")
        self.path = path
        self.file = GgufFile(path)
        if gguf_mix.VERSION_KEY in self.file.metadata:
            raise unsupported(path, "it is a mix already; quantise the model that it came from")
        if any(name.startswith(nested.OWN) for name in self.file.tensors):
            raise unsupported(path, "it has a light path already; take the model it came from")
        self.config = gguf_model.read_config(self.file)
        gguf_model.check_shapes(self.file, self.config)
        self._tensors = GgufTensors(self.file, self.config)

    def weights(self) -> Weights:
        """Return all weights, a copy of their own at each call."""
        return plain.read_weights(self._tensors, self.config)

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Shape of each matrix: (outputs, inputs)."""
        tensors = self.file.tensors.items()
        return {n: (t.shape[0], t.shape[1]) for n, t in tensors if len(t.shape) == 2}

    def matrix(self, name: str) -> torch.Tensor:
        """Return one matrix, [outputs, inputs] float32."""
        pieces = [np.asarray(rows) for _, rows in self._tensors.pieces(name)]
        return torch.from_numpy(np.concatenate(pieces))

    def blocks(self, name: str) -> Blocks:
        """Return one matrix as it is stored."""
        return self._tensors.matrix(name)

    def vector(self, name: str) -> torch.Tensor:
        """Return one vector, float32."""
        _, numbers = next(self._tensors.pieces(name))
        return torch.from_numpy(np.array(numbers, dtype=np.float32))

    def write(
        self,
        target: pathlib.Path,
        mix: Mix,
        rows_of: Callable[[str], Rows],
        temperature_factor: float = 1.0,
        *,
        vector_of: Callable[[str], torch.Tensor] | None = None,
        told: Mapping[str, str] | None = None,
    ) -> None:
        """Write the model with its matrices in `mix`; `rows_of` gives each one's codes.

        Vectors are the source's, or those of `vector_of`; `told` is further metadata.
        Who loads it multiplies every temperature by `temperature_factor`. The file
        appears in one rename when it is whole.
        """
        partial = target.with_name(f".{target.name}.partial")
        writer = gguf.GGUFWriter(partial, self.config.architecture)
        further = {gguf_mix.TEMPERATURE_KEY: float(temperature_factor), **dict(told or {})}
        for key, value in (self._metadata(mix) | further).items():
            _add(writer, key, value)
        for name, content in self._contents(mix, rows_of, vector_of or self.vector):
            writer.add_tensor(name, content)
        _finish(writer)
        partial.replace(target)

    def write_beside(
        self,
        target: pathlib.Path,
        own: Mapping[str, torch.Tensor | Stored],
        told: Mapping[str, str],
    ) -> None:
        """Write the model bit for bit as it is, and the tensors `own` of a light path.

        Like `write` otherwise; vectors of `own` are float32.
        """
        partial = target.with_name(f".{target.name}.partial")
        writer = gguf.GGUFWriter(partial, self.config.architecture)
        kept = {k: v for k, v in self.file.metadata.items() if k not in _SET_BY_WRITER}
        for key, value in (kept | dict(told)).items():
            _add(writer, key, value)
        for name, tensor in self.file.tensors.items():
            writer.add_tensor(name, self.file.bytes_of(name), raw_dtype=tensor.kind)
        for name, content in own.items():
            if isinstance(content, torch.Tensor):
                writer.add_tensor(nested.OWN + name, content.cpu().numpy())
                continue
            rows, form = content
            blocks = group_codes.as_blocks(rows, form)
            kind = gguf.GGMLQuantizationType[form.kind]
            writer.add_tensor(nested.OWN + name, blocks, raw_dtype=kind)
        _finish(writer)
        partial.replace(target)

    def _metadata(self, mix: Mix) -> dict[str, Any]:
        described = {
            name: [form.bits, form.group, form.has_minimum, self.matrices[name][1]]
            for name, form in mix.items()
        }
        kept = {k: v for k, v in self.file.metadata.items() if k not in _LEFT_OUT}
        return kept | {
            gguf_mix.VERSION_KEY: gguf_mix.VERSION,
            gguf_mix.MATRICES_KEY: json.dumps(described),
        }

    def _contents(
        self,
        mix: Mix,
        rows_of: Callable[[str], Rows],
        vector_of: Callable[[str], torch.Tensor],
    ) -> Iterator[tuple[str, np.ndarray]]:
        for name in self.file.tensors:
            if name in mix:
                stored = group_codes.stored(rows_of(name), mix[name])
                yield name, np.ascontiguousarray(self._tensors.in_pairs(name, stored)).view(np.int8)
            else:
                numbers = vector_of(name).cpu().numpy()
                yield name, np.ascontiguousarray(self._tensors.in_pairs(name, numbers))


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = gguf.GGUFValueType
    if isinstance(value, list):
        if value:
            writer.add_key_value(key, value, kinds.ARRAY, sub_type=_kind(value[0]))
        return
    writer.add_key_value(key, value, _kind(value))


def _kind(value: Any) -> gguf.GGUFValueType:
    kinds = gguf.GGUFValueType
    if isinstance(value, bool):
        return kinds.BOOL
    if isinstance(value, int):
        return kinds.UINT64 if value >= 1 << 63 else kinds.INT64
    return kinds.FLOAT32 if isinstance(value, float) else kinds.STRING
