"""The *.safetensors of a folder: its tensors by the names that GGUF has for them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from services.inference.kernels import Blocks
from services.inference.models.config import ModelConfig, inverse_frequencies
from services.inference.models.eight_bits import KIND, as_blocks
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.weights import Weights, expected_shapes
from thermesh.errors import NotFound

_FORMATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
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
        self._places: dict[str, tuple[pathlib.Path, str]] = {}
        for path in self._paths:
            self._describe(path)

    def _describe(self, path: pathlib.Path) -> None:
        with _opened(path) as shard:
            for name in shard.keys():  # noqa: SIM118  # not a dict
                stored = shard.get_slice(name)
                known = _gguf_name(name)
                if known in self.shapes:
                    raise malformed(path, f"tensor {name} is in another shard too")
                if stored.get_dtype() not in _FORMATS:
                    allowed = ", ".join(_FORMATS)
                    raise unsupported(
                        path, f"tensor {name} is {stored.get_dtype()}, supported are {allowed}"
                    )
                self.shapes[known] = tuple(stored.get_shape())
                self.formats[known] = stored.get_dtype()
                self._places[known] = (path, name)

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

    def fill(self, weights: Weights, config: ModelConfig) -> None:
        """Copy every tensor into `weights`, one resident at a time."""
        views = weights.destinations(config)
        for path in self._paths:
            with _opened(path) as shard:
                for name in shard.keys():  # noqa: SIM118  # not a dict
                    view = views.get(_gguf_name(name))
                    if view is not None:
                        view.copy_(_finite(path, name, shard.get_tensor(name)))

    def pieces(self, name: str) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, rows as float32) of a matrix by its GGUF name."""
        path, stored_name = self._places[name]
        rows, columns = self.shapes[name]
        step = max(1, _PIECE_WEIGHTS // columns)
        with _opened(path) as shard:
            stored = shard.get_slice(stored_name)
            for first in range(0, rows, step):
                piece = stored[first : min(first + step, rows)]
                yield first, _finite(path, stored_name, piece).float()

    def stored(self, name: str) -> torch.Tensor:
        """Return a tensor that is there, by its GGUF name, in the format of its file."""
        path, stored_name = self._places[name]
        with _opened(path) as shard:
            return _finite(path, stored_name, shard.get_tensor(stored_name))

    def vector(self, name: str) -> torch.Tensor | None:
        """Return a vector as float32 by its GGUF name, None where the files lack it."""
        if name not in self._places:
            return None
        path, stored_name = self._places[name]
        with _opened(path) as shard:
            return _finite(path, stored_name, shard.get_tensor(stored_name)).float()


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
        stored = self._shards.stored(name)
        return Blocks(self._kind(name), stored.view(torch.uint8).numpy(), stored.shape[1])

    def vector(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return a vector, None where the files lack it."""
        found = self._shards.vector(name)
        return None if found is None else found.numpy()

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """Return the rotary frequencies in radians per position: [head_size / 2]."""
        found: npt.NDArray[np.float32] = inverse_frequencies(self._config).numpy()
        return found

    @property
    def last_norm(self) -> npt.NDArray[np.float32]:
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
        rows, columns = self._shards.shapes[name]
        pieces = ((first, piece.numpy()) for first, piece in self._shards.pieces(name))
        return as_blocks((rows, columns), pieces)


def _finite(path: pathlib.Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise malformed(path, f"tensor {name} holds numbers that are not finite")
    return tensor


def _ignored(name: str) -> bool:
    """Tell tensors that add nothing: rotary tables, and a head that is tied."""
    return name.endswith("rotary_emb.inv_freq") or name == "output.weight"


def _opened(path: pathlib.Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise malformed(path, "not a sound safetensors file (truncated or damaged)") from error
