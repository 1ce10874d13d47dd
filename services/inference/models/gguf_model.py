"""A GGUF file of the Llama family -> network and tokenizer.

Key names are those of the GGUF specification. The converter of llama.cpp
reorders the rows of query and key matrices of `llama` files so that rotary
pairs lie side by side (`LlamaModel.permute` in convert_hf_to_gguf.py); they are
put back to halves here. `qwen2` and `qwen3` files keep them.
"""

from __future__ import annotations

import pathlib

import gguf
import numpy as np
import numpy.typing as npt
import torch

from services.inference.models.config import ModelConfig, RopeScaling
from services.inference.models.gguf_file import GgufFile
from services.inference.models.gguf_tokenizer import read_tokenizer
from services.inference.models.loaded import LoadedModel
from services.inference.models.network import Network
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.weights import Weights, expected_shapes, parameter_count

ARCHITECTURES = ("llama", "qwen2", "qwen3")
_PERMUTED = ("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias")
_FREQUENCY_FACTORS = "rope_freqs.weight"


def load(path: pathlib.Path, name: str) -> LoadedModel:
    """Load the GGUF file `path` and call the model `name`."""
    file = GgufFile(path)
    config = read_config(file)
    _check_shapes(file, config)
    tokenizer = read_tokenizer(file)
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise malformed(file.path, "the tokenizer holds more tokens than the network")
    weights = Weights.allocate(config)
    _fill(weights, file, config)
    return LoadedModel(
        name=name,
        config=config,
        network=Network(config, weights),
        tokenizer=tokenizer,
        weight_format=_weight_format(file),
        parameter_count=parameter_count(config),
        created_unix_s=int(path.stat().st_mtime),
    )


def read_config(file: GgufFile) -> ModelConfig:
    """Return the shape of the network that the file describes."""
    architecture = file.require("general.architecture", str)
    if architecture not in ARCHITECTURES:
        allowed = ", ".join(ARCHITECTURES)
        raise unsupported(
            file.path, f"architecture {architecture} is not supported, only {allowed}"
        )
    if file.optional(f"{architecture}.expert_count", int, 0):
        raise unsupported(file.path, "mixtures of experts are not supported")
    config = _sizes(file, architecture)
    problem = config.problem()
    if problem:
        raise malformed(file.path, problem)
    return config


def _sizes(file: GgufFile, architecture: str) -> ModelConfig:
    def integer(key: str, default: int | None = None) -> int:
        if default is None:
            return file.require(f"{architecture}.{key}", int)
        return file.optional(f"{architecture}.{key}", int, default) or default

    heads = integer("attention.head_count")
    head_size = integer("attention.key_length", integer("embedding_length") // max(heads, 1))
    if integer("rope.dimension_count", head_size) != head_size:
        raise unsupported(file.path, "rotary embedding of a part of each head is not supported")
    if integer("attention.value_length", head_size) != head_size:
        raise unsupported(file.path, "values of another size than keys are not supported")
    return ModelConfig(
        architecture=architecture,
        context_length=integer("context_length"),
        vocabulary_size=_vocabulary_size(file),
        layers=integer("block_count"),
        hidden_size=integer("embedding_length"),
        heads=heads,
        kv_heads=integer("attention.head_count_kv", heads),
        head_size=head_size,
        intermediate_size=integer("feed_forward_length"),
        rope_theta=file.optional(f"{architecture}.rope.freq_base", float, None) or 10_000.0,
        rms_epsilon=file.require(f"{architecture}.attention.layer_norm_rms_epsilon", float),
        rope_scaling=_rope_scaling(file, architecture),
        tied_embeddings="output.weight" not in file.tensors,
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
    )


def _vocabulary_size(file: GgufFile) -> int:
    """Return the rows of the embedding, which may be padded beyond the tokenizer's."""
    if "token_embd.weight" not in file.tensors:
        raise malformed(file.path, "tensor token_embd.weight is missing")
    return file.tensors["token_embd.weight"].shape[0]


def _rope_scaling(file: GgufFile, architecture: str) -> RopeScaling | None:
    prefix = f"{architecture}.rope.scaling"
    kind = file.optional(f"{prefix}.type", str, "none")
    if kind == "none":
        return None
    if kind != "linear":
        raise unsupported(file.path, f"rope scaling {kind} is not supported, only linear, llama3")
    return RopeScaling("linear", file.require(f"{prefix}.factor", float))


def _check_shapes(file: GgufFile, config: ModelConfig) -> None:
    """Refuse a file whose tensors are not exactly those the network has.

    A tensor we do not know would be a part of the network that we leave out.
    """
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in file.tensors:
            raise malformed(file.path, f"tensor {name} is missing")
        found = file.tensors[name].shape
        if found != shape:
            raise malformed(file.path, f"tensor {name} has shape {found}, expected {shape}")
    unknown = sorted(set(file.tensors) - set(expected) - {_FREQUENCY_FACTORS})
    if unknown:
        raise unsupported(file.path, f"tensor {unknown[0]} is not part of a network known here")


def _fill(weights: Weights, file: GgufFile, config: ModelConfig) -> None:
    for name, view in weights.destinations(config).items():
        is_permuted = config.architecture == "llama" and name.endswith(_PERMUTED)
        for first, rows in file.pieces(name, row_multiple=config.head_size):
            halves = _halves(rows, config.head_size) if is_permuted else rows
            target = view[first : first + len(rows)] if view.dim() > 1 else view
            target.copy_(torch.from_numpy(np.require(halves, requirements="W")))
    if _FREQUENCY_FACTORS in file.tensors:
        _divide_frequencies(weights, file, config)


def _halves(rows: npt.NDArray[np.float32], head_size: int) -> npt.NDArray[np.float32]:
    """Bring rotary pairs that lie side by side into the two halves of each head."""
    pairs = rows.reshape(-1, head_size // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _divide_frequencies(weights: Weights, file: GgufFile, config: ModelConfig) -> None:
    """Apply the factors of `rope_freqs.weight`: how GGUF stores the llama3 scaling."""
    shape = file.tensors[_FREQUENCY_FACTORS].shape
    if shape != (config.head_size // 2,):
        expected = (config.head_size // 2,)
        raise malformed(
            file.path, f"tensor {_FREQUENCY_FACTORS} has shape {shape}, expected {expected}"
        )
    _, factors = next(file.pieces(_FREQUENCY_FACTORS))
    weights.inverse_frequencies.div_(torch.from_numpy(np.array(factors)))


def _weight_format(file: GgufFile) -> str:
    """Return the format by its name in llama.cpp, e.g. `Q4_1`."""
    number = file.optional("general.file_type", int, -1)
    try:
        name = gguf.LlamaFileType(number).name
    except ValueError:
        return _commonest_format(file)
    return name.removeprefix("MOSTLY_").removeprefix("ALL_")


def _commonest_format(file: GgufFile) -> str:
    byte_counts: dict[str, int] = {}
    for tensor in file.tensors.values():
        byte_counts[tensor.kind.name] = byte_counts.get(tensor.kind.name, 0) + tensor.byte_count
    return max(byte_counts, key=lambda name: byte_counts[name])
