"""Which tensors a model file holds, by their GGUF names, and how large they are.

Shapes are the file's own: matrices are [output, input].
"""

from __future__ import annotations

import math

from services.inference.models.config import ModelConfig

Shapes = dict[str, tuple[int, ...]]


def expected_shapes(config: ModelConfig) -> Shapes:
    """Return the shape of each tensor that the file must hold.

    Allocates nothing, so that a file is checked before memory is taken for it.
    """
    embedding = (config.vocabulary_size, config.hidden_size)
    shapes: Shapes = {"token_embd.weight": embedding, "output_norm.weight": (config.hidden_size,)}
    if not config.tied_embeddings:
        shapes["output.weight"] = embedding
    layer = {**_vectors(config), **_matrices(config)}
    for index in range(config.layers):
        shapes |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def parameter_count(config: ModelConfig) -> int:
    """Return how many weights the file holds; a tied embedding counts once."""
    return sum(math.prod(shape) for shape in expected_shapes(config).values())


def _matrices(config: ModelConfig) -> Shapes:
    hidden, intermediate = config.hidden_size, config.intermediate_size
    query, key_value = config.heads * config.head_size, config.kv_heads * config.head_size
    return {
        "attn_q.weight": (query, hidden),
        "attn_k.weight": (key_value, hidden),
        "attn_v.weight": (key_value, hidden),
        "attn_output.weight": (hidden, query),
        "ffn_gate.weight": (intermediate, hidden),
        "ffn_up.weight": (intermediate, hidden),
        "ffn_down.weight": (hidden, intermediate),
    }


def _vectors(config: ModelConfig) -> Shapes:
    hidden, head = (config.hidden_size,), (config.head_size,)
    query, key_value = config.heads * config.head_size, config.kv_heads * config.head_size
    shapes: Shapes = {"attn_norm.weight": hidden, "ffn_norm.weight": hidden}
    if config.qkv_bias:
        shapes |= {
            "attn_q.bias": (query,),
            "attn_k.bias": (key_value,),
            "attn_v.bias": (key_value,),
        }
    if config.output_bias:
        shapes["attn_output.bias"] = hidden
    if config.qk_norm:
        shapes |= {"attn_q_norm.weight": head, "attn_k_norm.weight": head}
    return shapes
