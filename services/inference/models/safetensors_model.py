"""A folder in the layout of the Hugging Face hub -> network and tokenizer.

config.json names the shape, *.safetensors hold the weights (in one file or in
shards), tokenizer.json and tokenizer_config.json the tokenizer and the chat
template. Key names are those of transformers, version 5 (`rope_parameters`)
and before (`rope_theta`, `rope_scaling`).
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from services.inference.kernels import on_device
from services.inference.models.config import ModelConfig, RopeScaling
from services.inference.models.folder import JsonFile
from services.inference.models.folder_tokenizer import read_tokenizer
from services.inference.models.loaded import LoadedModel
from services.inference.models.network import Network
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.weights import Weights, expected_shapes, parameter_count
from thermesh.errors import NotFound

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
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


def load(folder: pathlib.Path, name: str) -> LoadedModel:
    """Load the model in `folder` and call it `name`."""
    shards = _Shards(folder)
    config = read_config(JsonFile.read(folder / "config.json"), shards.shapes)
    shards.check(config)
    tokenizer = read_tokenizer(folder)
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise malformed(folder / "tokenizer.json", "holds more tokens than the network")
    weights = Weights.allocate(config)
    shards.fill(weights, config)
    return LoadedModel(
        name=name,
        config=config,
        network=on_device(config, weights) or Network(config, weights),
        tokenizer=tokenizer,
        weight_format=shards.weight_format,
        parameter_count=parameter_count(config),
        created_unix_s=shards.created_unix_s,
    )


def read_config(file: JsonFile, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """Return the shape that config.json describes for tensors of these `shapes`."""
    architecture = file.require("model_type", str)
    if architecture not in ARCHITECTURES:
        allowed = ", ".join(ARCHITECTURES)
        raise unsupported(file.path, f"model_type {architecture} is not supported, only {allowed}")
    if file.optional("quantization_config", dict, {}):
        raise unsupported(file.path, "quantized safetensors are not supported; GGUF files are")
    activation = file.optional("hidden_act", str, "silu")
    if activation != "silu":
        raise unsupported(file.path, f"hidden_act {activation} is not supported, only silu")
    config = _sizes(file, architecture, shapes)
    problem = config.problem()
    if problem:
        raise malformed(file.path, problem)
    return config


def _sizes(file: JsonFile, architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    heads = file.require("num_attention_heads", int)
    hidden = file.require("hidden_size", int)
    rope = file.optional("rope_parameters", dict, {}) or file.optional("rope_scaling", dict, {})
    tied = file.optional("tie_word_embeddings", bool, False) or "output.weight" not in shapes
    return ModelConfig(
        architecture=architecture,
        context_length=_context_length(file),
        vocabulary_size=file.require("vocab_size", int),
        layers=file.require("num_hidden_layers", int),
        hidden_size=hidden,
        heads=heads,
        kv_heads=file.optional("num_key_value_heads", int, heads),
        head_size=file.optional("head_dim", int, hidden // max(heads, 1)),
        intermediate_size=file.require("intermediate_size", int),
        rope_theta=_rope_theta(file, rope),
        rms_epsilon=file.optional("rms_norm_eps", float, 1e-6),
        rope_scaling=_rope_scaling(file.path, rope),
        tied_embeddings=tied,
        qkv_bias="blk.0.attn_q.bias" in shapes,
        output_bias="blk.0.attn_output.bias" in shapes,
        qk_norm="blk.0.attn_q_norm.weight" in shapes,
    )


def _context_length(file: JsonFile) -> int:
    """Return the context length; within a sliding window attention is full."""
    length = file.require("max_position_embeddings", int)
    window = file.optional("sliding_window", int, length)
    return min(length, window) if file.optional("use_sliding_window", bool, True) else length


def _rope_theta(file: JsonFile, rope: Mapping[str, Any]) -> float:
    theta = rope.get("rope_theta", file.optional("rope_theta", float, 10_000.0))
    return _number(file.path, "rope_theta", theta)


def _rope_scaling(path: pathlib.Path, rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        raise unsupported(path, f"rope scaling {kind} is not supported, only linear, llama3")
    defaults = {
        "factor": 0.0,  # not a factor: refused unless the file has one
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    numbers = {key: _number(path, key, rope.get(key, default)) for key, default in defaults.items()}
    return RopeScaling(
        kind=kind,
        factor=numbers["factor"],
        low_frequency_factor=numbers["low_freq_factor"],
        high_frequency_factor=numbers["high_freq_factor"],
        original_context_length=int(numbers["original_max_position_embeddings"]),
    )


def _number(path: pathlib.Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise malformed(path, f"{key} is {value!r}, not a number")
    return float(value)


def _gguf_name(name: str) -> str:
    """Return the name that `Weights` knows; a name it cannot know stays as it is."""
    if name in _OUTER_NAMES:
        return _OUTER_NAMES[name]
    parts = name.split(".")
    inner = _NAMES.get(".".join(parts[3:-1]))
    if parts[:2] != ["model", "layers"] or inner is None:
        return name
    return f"blk.{parts[2]}.{inner}.{parts[-1]}"


class _Shards:
    """The *.safetensors of a folder, read by the GGUF names of their tensors."""

    def __init__(self, folder: pathlib.Path) -> None:
        # Some folders hold the same weights again under other names
        # (consolidated.safetensors), which transformers leaves alone too.
        found = list(folder.glob("model*.safetensors")) or list(folder.glob("*.safetensors"))
        self._paths = sorted(found)
        if not self._paths:
            raise NotFound(f"{folder.name}: no *.safetensors in this folder", field="model")
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._formats: dict[str, str] = {}
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
                self._formats[known] = stored.get_dtype()

    @property
    def weight_format(self) -> str:
        """The number format of most tensors, e.g. `BF16`."""
        formats = list(self._formats.values())
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
