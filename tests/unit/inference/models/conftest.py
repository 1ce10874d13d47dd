"""Models of a few thousand weights, written as files the way real ones are."""

import dataclasses
import json
import math
import struct

import gguf
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from services.inference.models import tokenizer as tokenizer_module

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "Ġ Ġ"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [
    *SPECIAL,
    *tokenizer_module.byte_alphabet(),
    *(merge.replace(" ", "") for merge in MERGES),
]


@dataclasses.dataclass
class Tiny:
    """Shape and weights of a small network, in the layout of transformers."""

    layers: int = 2
    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 8
    intermediate: int = 64
    theta: float = 10_000.0
    epsilon: float = 1e-5
    tied: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    tokens: list = dataclasses.field(default_factory=lambda: list(TOKENS))
    seed: int = 0

    def __post_init__(self):
        self._random = np.random.default_rng(self.seed)
        self.weights = {
            "embed_tokens.weight": self._matrix(len(self.tokens), self.hidden),
            "norm.weight": self._norm(self.hidden),
        }
        if not self.tied:
            self.weights["lm_head.weight"] = self._matrix(len(self.tokens), self.hidden)
        for index in range(self.layers):
            for name, value in self._layer().items():
                self.weights[f"layers.{index}.{name}"] = value

    def _layer(self):
        query, key = self.heads * self.head_size, self.kv_heads * self.head_size
        layer = {
            "input_layernorm.weight": self._norm(self.hidden),
            "self_attn.q_proj.weight": self._matrix(query, self.hidden),
            "self_attn.k_proj.weight": self._matrix(key, self.hidden),
            "self_attn.v_proj.weight": self._matrix(key, self.hidden),
            "self_attn.o_proj.weight": self._matrix(self.hidden, query),
            "post_attention_layernorm.weight": self._norm(self.hidden),
            "mlp.gate_proj.weight": self._matrix(self.intermediate, self.hidden),
            "mlp.up_proj.weight": self._matrix(self.intermediate, self.hidden),
            "mlp.down_proj.weight": self._matrix(self.hidden, self.intermediate),
        }
        if self.qkv_bias:
            for name, size in (("q", query), ("k", key), ("v", key)):
                layer[f"self_attn.{name}_proj.bias"] = self._norm(size) - 1
        if self.output_bias:
            layer["self_attn.o_proj.bias"] = self._norm(self.hidden) - 1
        if self.qk_norm:
            layer["self_attn.q_norm.weight"] = self._norm(self.head_size)
            layer["self_attn.k_norm.weight"] = self._norm(self.head_size)
        return layer

    def _matrix(self, rows, columns):
        return (self._random.standard_normal((rows, columns)) / math.sqrt(columns)).astype("f4")

    def _norm(self, size):
        return (1 + 0.1 * self._random.standard_normal(size)).astype("f4")


GGUF_NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
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


def gguf_tensors(tiny, architecture):
    """Rename and permute as llama.cpp's converter does."""
    tensors = {}
    for name, value in tiny.weights.items():
        stem, kind = name.rsplit(".", 1)
        prefix = ""
        if stem.startswith("layers."):
            _, index, stem = stem.split(".", 2)
            prefix = f"blk.{index}."
        stored = value
        if architecture == "llama" and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = tiny.heads if stem == "self_attn.q_proj" else tiny.kv_heads
            stored = value.reshape(heads, 2, tiny.head_size // 2, *value.shape[1:])
            stored = np.ascontiguousarray(stored.swapaxes(1, 2).reshape(value.shape))
        tensors[f"{prefix}{GGUF_NAMES[stem]}.{kind}"] = stored
    return tensors


def gguf_metadata(tiny, architecture):
    """Metadata of a small byte-level model."""
    return {
        f"{architecture}.context_length": 128,
        f"{architecture}.embedding_length": tiny.hidden,
        f"{architecture}.block_count": tiny.layers,
        f"{architecture}.feed_forward_length": tiny.intermediate,
        f"{architecture}.attention.head_count": tiny.heads,
        f"{architecture}.attention.head_count_kv": tiny.kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": tiny.epsilon,
        f"{architecture}.rope.freq_base": tiny.theta,
        "general.file_type": 0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tiny.tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(tiny.tokens) - len(SPECIAL)),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": CHATML,
    }


def _add(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


@pytest.fixture
def write_gguf(tmp_path):
    """Return a function that writes a GGUF file; None in `metadata` removes a key."""

    def write(tiny=None, *, architecture="llama", metadata=None, tensors=None, kind=None):
        tiny = tiny or Tiny()
        path = tmp_path / "tiny.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        for key, value in (gguf_metadata(tiny, architecture) | (metadata or {})).items():
            if value is not None:
                _add(writer, key, value)
        for name, value in (gguf_tensors(tiny, architecture) | (tensors or {})).items():
            if value is None:
                continue
            if kind is not None and value.ndim == 2:
                writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def _save_bf16(tensors, path):
    """Write a safetensors file of bfloat16 by hand: numpy has no such type."""
    header, data = {}, b""
    for name, value in tensors.items():
        stored = (value.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(stored)]
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": offsets}
        data += stored
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def hub_config(tiny):
    """config.json of a small model."""
    return {
        "model_type": "llama",
        "max_position_embeddings": 128,
        "hidden_size": tiny.hidden,
        "num_hidden_layers": tiny.layers,
        "intermediate_size": tiny.intermediate,
        "num_attention_heads": tiny.heads,
        "num_key_value_heads": tiny.kv_heads,
        "head_dim": tiny.head_size,
        "rms_norm_eps": tiny.epsilon,
        "rope_theta": tiny.theta,
        "tie_word_embeddings": tiny.tied,
        "vocab_size": len(tiny.tokens),
        "hidden_act": "silu",
        "eos_token_id": 2,
    }


def hub_tokenizer(tokens):
    """tokenizer.json of a small byte-level model."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(t, special=True) for t in SPECIAL])
    return backend


@pytest.fixture
def write_folder(tmp_path):
    """Return a function that writes a folder; None in `config` removes a key."""

    def write(tiny=None, *, config=None, settings=None, shards=1, bf16=False):
        tiny = tiny or Tiny()
        folder = tmp_path / "tiny"
        folder.mkdir()
        content = hub_config(tiny) | (config or {})
        content = {key: value for key, value in content.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(content))
        hub_tokenizer(tiny.tokens).save(str(folder / "tokenizer.json"))
        settings = {"chat_template": CHATML, "eos_token": "<|im_end|>"} | (settings or {})
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        names = list(tiny.weights)
        for shard in range(shards):
            tensors = {
                name if name.startswith("lm_head") else f"model.{name}": tiny.weights[name]
                for name in names[shard::shards]
            }
            path = folder / f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            save = _save_bf16 if bf16 else safetensors.numpy.save_file
            save(tensors, path)
        return folder

    return write


@pytest.fixture
def tiny():
    """The class of small models, for tests that want another shape."""
    return Tiny


@pytest.fixture
def dense_logits():
    """Return an independent forward pass: dense, one token after another, float64."""
    return _dense_logits


def _dense_logits(tiny, token_ids, inverse_frequencies=None):
    half = tiny.head_size // 2
    if inverse_frequencies is None:
        inverse_frequencies = tiny.theta ** (-np.arange(half) / half)
    weights = {name: value.astype(np.float64) for name, value in tiny.weights.items()}
    hidden = weights["embed_tokens.weight"][token_ids]
    for index in range(tiny.layers):
        layer = {
            name.split(".", 2)[2]: value
            for name, value in weights.items()
            if name.startswith(f"layers.{index}.")
        }
        normed = _rms(hidden, layer["input_layernorm.weight"], tiny.epsilon)
        hidden = hidden + _attention(tiny, layer, normed, inverse_frequencies)
        normed = _rms(hidden, layer["post_attention_layernorm.weight"], tiny.epsilon)
        gate = normed @ layer["mlp.gate_proj.weight"].T
        up = normed @ layer["mlp.up_proj.weight"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj.weight"].T
    head = weights.get("lm_head.weight", weights["embed_tokens.weight"])
    return _rms(hidden, weights["norm.weight"], tiny.epsilon) @ head.T


def _rms(hidden, weight, epsilon):
    return hidden / np.sqrt((hidden**2).mean(-1, keepdims=True) + epsilon) * weight


def _project(layer, name, normed):
    projected = normed @ layer[f"self_attn.{name}_proj.weight"].T
    return projected + layer.get(f"self_attn.{name}_proj.bias", 0.0)


def _attention(tiny, layer, normed, inverse_frequencies):
    tokens, size = len(normed), tiny.head_size
    queries = _project(layer, "q", normed).reshape(tokens, tiny.heads, size)
    keys = _project(layer, "k", normed).reshape(tokens, tiny.kv_heads, size)
    values = _project(layer, "v", normed).reshape(tokens, tiny.kv_heads, size)
    if tiny.qk_norm:
        queries = _rms(queries, layer["self_attn.q_norm.weight"], tiny.epsilon)
        keys = _rms(keys, layer["self_attn.k_norm.weight"], tiny.epsilon)
    queries, keys = _rotate(queries, inverse_frequencies), _rotate(keys, inverse_frequencies)
    output = np.zeros((tokens, tiny.heads, size))
    for row in range(tokens):
        for head in range(tiny.heads):
            shared = head // (tiny.heads // tiny.kv_heads)
            scores = keys[: row + 1, shared] @ queries[row, head] / math.sqrt(size)
            weights = np.exp(scores - scores.max())
            output[row, head] = weights / weights.sum() @ values[: row + 1, shared]
    return _project(layer, "o", output.reshape(tokens, -1))


def _rotate(vectors, inverse_frequencies):
    """Turn member i and i + half as one complex number."""
    half = vectors.shape[-1] // 2
    angles = np.arange(len(vectors))[:, None, None] * inverse_frequencies
    turned = (vectors[..., :half] + 1j * vectors[..., half:]) * np.exp(1j * angles)
    return np.concatenate((turned.real, turned.imag), axis=-1)
