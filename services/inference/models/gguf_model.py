"""A GGUF file of the Llama family -> network and tokenizer.

Key names are those of the GGUF specification.
"""

from __future__ import annotations

import math
import pathlib
from typing import TYPE_CHECKING, Any

import gguf

from services.inference.kernels import CpuNetwork, on_device, whole_network
from services.inference.kernels.cpu.packing import Tensors
from services.inference.models import gguf_mix, nested
from services.inference.models.config import ModelConfig, RopeScaling
from services.inference.models.eight_bits import as_wanted
from services.inference.models.gguf_file import GgufFile
from services.inference.models.gguf_tensors import FREQUENCY_FACTORS, GgufTensors
from services.inference.models.gguf_tokenizer import read_tokenizer
from services.inference.models.head_windows import measured
from services.inference.models.loaded import LoadedModel
from services.inference.models.nested import PrefixTensors
from services.inference.models.planned import as_planned
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.shapes import expected_shapes, parameter_count

if TYPE_CHECKING:
    from services.inference.kernels.triton.network import GpuNetwork
    from services.inference.models.network import Network

ARCHITECTURES = ("llama", "qwen2", "qwen3")


def load(path: pathlib.Path, name: str) -> LoadedModel:
    """Load the GGUF file `path` and call the model `name`."""
    file = GgufFile(path)
    config = read_config(file)
    check_shapes(file, config)
    tokenizer = read_tokenizer(file)
    if tokenizer.vocabulary_size > config.vocabulary_size:
        raise malformed(file.path, "the tokenizer holds more tokens than the network")
    network = _network(file, config)
    return LoadedModel(
        name=name,
        config=config,
        network=network,
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
    if (file.optional("split.count", int, 0) or 0) > 1:
        raise unsupported(file.path, "split files are not supported; merge with llama-gguf-split")
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
    before = file.optional(f"{architecture}.rope.scale_linear", float, None)  # until 2023
    if before is not None:
        return RopeScaling("linear", before)
    kind = file.optional(f"{prefix}.type", str, "none")
    if kind == "none":
        return None
    if kind != "linear":
        raise unsupported(file.path, f"rope scaling {kind} is not supported, only linear, llama3")
    return RopeScaling("linear", file.require(f"{prefix}.factor", float))


def check_shapes(file: GgufFile, config: ModelConfig) -> None:
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
    own = _own_shapes(file, config)
    for name in own.keys() & file.tensors.keys():
        if (found := file.tensors[name].shape) != own[name]:
            raise malformed(file.path, f"tensor {name} has shape {found}, expected {own[name]}")
    unknown = sorted(set(file.tensors) - set(expected) - set(own) - {FREQUENCY_FACTORS})
    if unknown:
        raise unsupported(file.path, f"tensor {unknown[0]} is not part of a network known here")


def _own_shapes(file: GgufFile, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what a light path may have of its own; empty where there is none."""
    light = nested.read(file.path, file.metadata, config)
    if light is None:
        return {}
    return {nested.OWN + name: s for name, s in expected_shapes(light.config(config)).items()}


def _network(file: GgufFile, config: ModelConfig) -> Network | CpuNetwork | GpuNetwork:
    tensors = GgufTensors(file, config)
    packable = as_wanted(tensors)
    light = nested.read(file.path, file.metadata, config)
    network: Network | CpuNetwork | GpuNetwork | None = on_device(config, packable)
    network = network or whole_network(config, as_planned(config, packable))
    if isinstance(network, CpuNetwork):
        last_norm = tensors.vector("output_norm.weight")
        network.head_windows = None if last_norm is None else measured(config, last_norm)
    own = GgufTensors(file, config, is_light=True)
    if network is not None:
        if light is not None and _is_alone(network):
            parts = PrefixTensors(packable, config, light, as_wanted(own))
            _join(network, _packed(light.config(config), parts))
        return network
    from services.inference.models import plain  # noqa: PLC0415  # imports torch

    weights = plain.read_weights(tensors, config)
    network = plain.network(config, weights)
    if light is not None and _is_alone(network):
        cut = plain.light_weights(weights, own, config, light)
        _join(network, plain.network(light.config(config), cut))
    return network


def _is_alone(network: object) -> bool:
    """Tell whether one process has all of a network: several cannot follow two yet."""
    share = getattr(network, "share", None)
    return hasattr(network, "light_network") and (share is None or share.world == 1)


def _join(network: object, light: object) -> None:
    setattr(network, "light_network", light)  # noqa: B010  # of the same class as the whole


def _packed(config: ModelConfig, tensors: Tensors) -> Any:
    """Return a network of blocks as they are, of whichever class; None where none fits."""
    return on_device(config, tensors) or whole_network(config, tensors)


def _weight_format(file: GgufFile) -> str:
    """Return the format by its name in llama.cpp, e.g. `Q4_1`; that of a mix by its
    bits per weight, e.g. `MIX_4.00`, and what it multiplies temperatures by.
    """
    if mixed := [tensor for tensor in file.tensors.values() if tensor.mix]:
        bits = 8 * sum(tensor.byte_count for tensor in mixed)
        name = f"MIX_{bits / sum(math.prod(tensor.shape) for tensor in mixed):.2f}"
        factor = gguf_mix.temperature_factor(file.path, file.metadata)
        return name if factor == 1.0 else f"{name} (temperature x {factor:.3f})"
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
