"""Write a GGUF model as a folder that vLLM reads: `SOURCE FOLDER BF16|W8A8`.

BF16 holds the file's weights as they are, rounded to bfloat16. W8A8 is what vLLM's own
quantiser (llm-compressor) makes without calibration: matrices of the layers in eight bits with
a scale for each output, activations in eight bits with a scale for each token, found
while it runs. No tokenizer is written: the benchmark speaks in token ids.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import torch
from safetensors.torch import save_file

from services.inference.models import plain
from services.inference.models.config import ModelConfig
from services.inference.models.gguf_file import GgufFile
from services.inference.models.gguf_model import check_shapes, read_config
from services.inference.models.gguf_tensors import GgufTensors
from services.inference.models.shards import hub_name

LARGEST_CODE = 127
EIGHT_BITS = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "group_size": None,
    "block_structure": None,
    "actorder": None,
}
W8A8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**EIGHT_BITS, "strategy": "channel", "dynamic": False},
            "input_activations": {**EIGHT_BITS, "strategy": "token", "dynamic": True},
            "output_activations": None,
        }
    },
}


def main() -> None:
    """Write what the command line says, beside its place first."""
    source, target, form = sys.argv[1:]
    file = GgufFile(pathlib.Path(source))
    config = read_config(file)
    if config.architecture != "llama" or config.rope_scaling:
        sys.exit("only models of the architecture llama without rope scaling can be written")
    check_shapes(file, config)
    views = plain.read_weights(GgufTensors(file, config), config).destinations(config)
    tensors = {hub_name(name): view.to(torch.bfloat16) for name, view in views.items()}
    folder = pathlib.Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    described = describe(config)
    if form == "W8A8":
        tensors, described["quantization_config"] = in_eight_bits(tensors), W8A8
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    partial = folder / "model.partial"
    save_file(contiguous, partial, metadata={"format": "pt"})
    partial.rename(folder / "model.safetensors")


def describe(config: ModelConfig) -> dict[str, Any]:
    """Return config.json as transformers has it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "dtype": "bfloat16",
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.rms_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": config.qkv_bias,
        "tie_word_embeddings": config.tied_embeddings,
    }


def in_eight_bits(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors with the matrices of the layers as codes and scales."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            found[name] = tensor
            continue
        numbers = tensor.float()
        scales = numbers.abs().amax(1, keepdim=True) / LARGEST_CODE
        found[name] = (numbers / scales).round().to(torch.int8)
        found[f"{name}_scale"] = scales.to(torch.bfloat16)
    return found


if __name__ == "__main__":
    main()
