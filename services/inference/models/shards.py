"""The *.safetensors of a folder: its tensors by the names that GGUF has for them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from services.inference.kernels import Blocks
from services.inference.models.config import ModelConfig, inverse_frequencies
from services.inference.models.eight_bits import KIND, as_blocks
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.shapes import expected_shapes
from thermesh.errors import NotFound

Floats = npt.NDArray[np.float32]

_FORMATS: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PIECE_WEIGHTS = 1 << 21
_LENGTH_BYTES = 8


def _gguf_name(name: str) -> str:
    """Return the name that `Weights` knows; a name it cannot know stays as it is."""
    if name in _OUTER_NAMES:
        return _OUTER_NAMES[name]
    parts = name.split(".")
    inner = _NAMES.get(".".join(parts[3:-1]))
    if parts[:2] != ["model", "layers"] or inner is None:
        return name
    return f"blk.{parts[2]}.{inner}.{parts[-1]}"


def hub_name(name: str) -> str:
    """Return the name in safetensors of a tensor that `Weights` knows by `name`."""
    for outer, known in _OUTER_NAMES.items():
        if known == name:
            return outer
    _, layer, inner, kind = name.split(".")
    (place,) = (place for place, known in _NAMES.items() if known == inner)
    return f"model.layers.{layer}.{place}.{kind}"


class Shards:
    """The *.safetensors of a folder, read by the GGUF names of their tensors."""

    def __init__(self, folder: pathlib.Path) -> None:
        # Some folders hold the same weights again under other names
        # (consolidated.safetensors), which transformers leaves alone too.
        found = list(folder.glob("model*.safetensors")) or list(folder.glob("*.safetensors"))
        self._paths = sorted(found)
        if not self._paths:
            raise NotFound(f"{folder.name}: no *.safetensors in this folder", field="model")
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.formats: dict[str, str] = {}
        self._places: dict[str, tuple[pathlib.Path, int]] = {}
        for path in self._paths:
            self._describe(path)

    def _describe(self, path: pathlib.Path) -> None:
        for name, told in _header(path).items():
            known, form = _gguf_name(name), told["dtype"]
            if known in self.shapes:
                raise malformed(path, f"tensor {name} is in another shard too")
            if form not in _FORMATS:
                allowed = ", ".join(_FORMATS)
                raise unsupported(path, f"tensor {name} is {form}, supported are {allowed}")
            self.shapes[known] = tuple(told["shape"])
            self.formats[known] = form
            self._places[known] = (path, told["begin"])

    @property
    def weight_format(self) -> str:
        """The number format of most tensors, e.g. `BF16`."""
        formats = list(self.formats.values())
        return max(sorted(set(formats)), key=formats.count)

    @property
    def created_unix_s(self) -> int:
        """When the newest file was written."""
        return max(int(path.stat().st_mtime) for path in self._paths)

    def check(self, config: ModelConfig) -> None:
        """Refuse tensors that are not exactly those of the network."""
        expected = expected_shapes(config)
        for name, shape in expected.items():
            if name not in self.shapes:
                raise malformed(self._paths[0], f"tensor {name} is missing")
            if self.shapes[name] != shape:
                raise malformed(
                    self._paths[0],
                    f"tensor {name} has shape {self.shapes[name]}, expected {shape}",
                )
        unknown = sorted(name for name in set(self.shapes) - set(expected) if not _ignored(name))
        if unknown:
            raise unsupported(
                self._paths[0], f"tensor {unknown[0]} is not part of a network known here"
            )

    def pieces(self, name: str) -> Iterator[tuple[int, Floats]]:
        """Yield (first row, rows as float32) of a tensor by its GGUF name, some MB at a time.

        A vector comes as one piece.
        """
        shape = self.shapes[name]
        if len(shape) == 1:
            yield 0, self._finite(name, self._mapped(name))
            return
        step = max(1, _PIECE_WEIGHTS // shape[1])
        stored = self._mapped(name)
        for first in range(0, shape[0], step):
            yield first, self._finite(name, stored[first : first + step])

    def stored(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the bytes of a matrix that is there, as the file has them: [rows, bytes]."""
        for _ in self.pieces(name):
            pass  # each is finite
        stored = self._mapped(name)
        return stored.view(np.uint8).reshape(len(stored), -1)

    def vector(self, name: str) -> Floats | None:
        """Return a vector as float32 by its GGUF name, None where the files lack it."""
        if name not in self._places:
            return None
        _, numbers = next(self.pieces(name))
        return numbers

    def _mapped(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor's own numbers, mapped; BF16 as the upper halves of float32."""
        path, offset = self._places[name]
        kind = _FORMATS[self.formats[name]]
        shape = self.shapes[name]
        return np.asarray(np.memmap(path, kind, mode="r", offset=offset, shape=shape))

    def _finite(self, name: str, stored: npt.NDArray[Any]) -> Floats:
        numbers = _as_floats(stored)
        if not np.isfinite(numbers).all():
            path, _ = self._places[name]
            raise malformed(path, f"tensor {hub_name(name)} holds numbers that are not finite")
        return numbers


class PackableShards:
    """The tensors of a folder for packed kernels, its matrices as they are stored."""

    def __init__(self, shards: Shards, config: ModelConfig) -> None:
        self._shards = shards
        self._config = config

    def kinds(self) -> Mapping[str, str]:
        """Return the format of each matrix of the network."""
        expected = expected_shapes(self._config).items()
        return {name: self._kind(name) for name, shape in expected if len(shape) > 1}

    def _kind(self, name: str) -> str:
        return self._shards.formats[name]

    def matrix(self, name: str) -> Blocks:
        """Return a matrix: its rows as bytes."""
        return Blocks(self._kind(name), self._shards.stored(name), self._shards.shapes[name][1])

    def vector(self, name: str) -> Floats | None:
        """Return a vector, None where the files lack it."""
        return self._shards.vector(name)

    def inverse_frequencies(self) -> Floats:
        """Return the rotary frequencies in radians per position: [head_size / 2]."""
        return inverse_frequencies(self._config)

    @property
    def last_norm(self) -> Floats:
        """The norm before the head, by which a model is known."""
        found = self.vector("output_norm.weight")
        assert found is not None  # `Shards.check` has seen it
        return found


class RoundedShards(PackableShards):
    """The same with matrices in eight bits."""

    def _kind(self, name: str) -> str:  # noqa: ARG002  # all alike
        return KIND

    def matrix(self, name: str) -> Blocks:
        """Return a matrix, rounded."""
        return as_blocks(self._shards.shapes[name], self._shards.pieces(name))


def _ignored(name: str) -> bool:
    """Tell tensors that add nothing: rotary tables, and a head that is tied."""
    return name.endswith("rotary_emb.inv_freq") or name == "output.weight"


def _header(path: pathlib.Path) -> dict[str, Any]:
    """Return each tensor's `dtype`, `shape` and where it begins in the file, in bytes.

    The library has checked that all lie within it, one behind the other.
    """
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise malformed(path, "not a sound safetensors file (truncated or damaged)") from error
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        tensors = json.loads(file.read(size))
    tensors.pop("__metadata__", None)
    for told in tensors.values():
        told["begin"] = _LENGTH_BYTES + size + told["data_offsets"][0]
    return dict(tensors)


def _as_floats(stored: npt.NDArray[Any]) -> Floats:
    """Return numbers as float32, a copy; see `Shards._mapped`."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32)
