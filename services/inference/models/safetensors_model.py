"""A folder in the layout of the Hugging Face hub -> network and tokenizer.

config.json names the shape, *.safetensors hold the weights (in one file or in
shards), tokenizer.json and tokenizer_config.json the tokenizer and the chat
template. Key names are those of transformers, version 5 (`rope_parameters`)
and before (`rope_theta`, `rope_scaling`).
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from services.inference.config import KernelsConfig
from services.inference.kernels import CpuNetwork, on_device, prefers_device, whole_network
from services.inference.models.config import ModelConfig, RopeScaling
from services.inference.models.folder import JsonFile
from services.inference.models.folder_tokenizer import read_tokenizer
from services.inference.models.head_windows import measured
from services.inference.models.loaded import LoadedModel
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.shapes import parameter_count
from services.inference.models.shards import PackableShards, RoundedShards, Shards
from thermesh.settings import from_env

if TYPE_CHECKING:
    from services.inference.kernels.triton.network import GpuNetwork
    from services.inference.models.network import Network

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")


def load(folder: pathlib.Path, name: str) -> LoadedModel:
    """Load the model in `folder` and call it `name`."""
    shards = Shards(folder)
    config = read_config(JsonFile.read(folder / "config.json"), shards.shapes)
    shards.check(config)
    tokenizer = read_tokenizer(folder)
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise malformed(folder / "tokenizer.json", "holds more tokens than the network")
    return LoadedModel(
        name=name,
        config=config,
        network=_network(shards, config),
        tokenizer=tokenizer,
        weight_format=shards.weight_format,
        parameter_count=parameter_count(config),
        created_unix_s=shards.created_unix_s,
    )


def _network(shards: Shards, config: ModelConfig) -> Network | CpuNetwork | GpuNetwork:
    is_rounded = from_env(KernelsConfig).weights == "int8"
    tensors = (RoundedShards if is_rounded else PackableShards)(shards, config)
    packed = on_device(config, tensors) if is_rounded else None
    if packed is not None:
        return packed
    # A GPU takes the weights as numbers.
    whole = whole_network(config, tensors) if is_rounded or not prefers_device() else None
    if whole is not None:
        whole.head_windows = measured(config, tensors.last_norm)
        return whole
    from services.inference.models import plain  # noqa: PLC0415  # imports torch

    return plain.from_shards(shards, config)


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
