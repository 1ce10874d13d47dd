"""The sentence encoder: BERT in plain torch, for one text at a time.

Loads any BERT-architecture folder with `config.json`, `model.safetensors` and
`tokenizer.json`; the default is all-MiniLM-L6-v2 (6 layers of 384, 12 heads).
Written out here rather than taken from a library because the attention weights
are wanted, the start must be quick and the memory small: the weights stay
mapped from the file, no optimiser or autograd state exists.

Products of linear layers may be of bfloat16 (`product_type`), everything between them is
of float32: an embedding's cosine to that of float32 stays above 0.9999. Eight-bit layers
were tried and left out, for 0.93 to 0.96.

Architecture: Devlin et al., arXiv 1810.04805; post-norm blocks. Sentence
embedding: mean over tokens, normalised (Reimers and Gurevych, arXiv
1908.10084). Shapes: n tokens, d width, h heads, f inner width.
"""

from __future__ import annotations

import json
import math
import pathlib
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from services.feature.encoding import ENCODER_CHARACTERS, Encoding
from thermesh.errors import InvalidArgument
from thermesh.features import ENCODER_TOKENS


@dataclass(frozen=True)
class HiddenStates:
    """Result of one forward pass: states [n, d], and the attention entropy in [0, 1]."""

    states: Tensor
    attention_entropy: float


class Encoder:
    """Turns a text into an `Encoding`. Not safe for two threads at once."""

    def __init__(self, folder: pathlib.Path, products: torch.dtype = torch.float32) -> None:
        """Load `folder`; raise InvalidArgument where it holds another architecture.

        `products` is the type in which linear layers multiply: float32 or bfloat16.
        """
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise InvalidArgument(
                f"the encoder must be a BERT with gelu, not {config.get('model_type')!r}",
                field="THERMESH_ENCODER",
            )
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._products = products
        self._weights = {
            name: weight.to(products) if _is_linear(name) else weight
            for name, weight in load_file(folder / "model.safetensors").items()
        }
        self.name = folder.name
        self.dimensions = int(config["hidden_size"])
        self._tokenizer = _tokenizer(folder / "tokenizer.json")

    def encode(self, text: str) -> Encoding:
        """Read the first ENCODER_TOKENS tokens of `text`."""
        tokens = self._tokenizer.encode(text[:ENCODER_CHARACTERS])
        hidden = self.forward(tokens.ids)
        mean = hidden.states.mean(dim=0)
        closeness = functional.cosine_similarity(hidden.states, mean[None], dim=1).mean()
        return Encoding(
            embedding=functional.normalize(mean, dim=0).numpy(),
            semantic_complexity=_unit(1.0 - float(closeness)),
            attention_entropy=hidden.attention_entropy,
            vocabulary_rarity=vocabulary_rarity(tokens),
        )

    def count(self, text: str) -> int:
        """Return how many tokens of `text` are read, the special ones included."""
        return len(self._tokenizer.encode(text[:ENCODER_CHARACTERS]).ids)

    @torch.inference_mode()
    def forward(self, token_ids: list[int]) -> HiddenStates:
        """Return the last hidden states of `token_ids`, which include the special tokens."""
        states, entropies = self._embed(token_ids), []
        for layer in range(self._layers):
            attended, entropy = self._attend(f"encoder.layer.{layer}.attention", states)
            states = self._feed_forward(f"encoder.layer.{layer}", attended)
            entropies.append(entropy)
        entropy_nats = sum(entropies) / self._layers
        return HiddenStates(states, _unit(entropy_nats / math.log(max(2, len(token_ids)))))

    def _embed(self, token_ids: list[int]) -> Tensor:
        """Return word + position + segment embeddings, normalised: [n, d]."""
        words = self._weights["embeddings.word_embeddings.weight"][torch.tensor(token_ids)]
        positions = self._weights["embeddings.position_embeddings.weight"][: len(token_ids)]
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings", words + positions + segment)

    def _attend(self, name: str, states: Tensor) -> tuple[Tensor, float]:
        """Return the block's output [n, d] and its mean row entropy in nats."""
        split = (len(states), self._heads, -1)
        query, key, value = (
            self._linear(f"{name}.self.{part}", states).view(split).transpose(0, 1)
            for part in ("query", "key", "value")
        )  # each [h, n, d / h]
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
        weights = scores.softmax(dim=2)  # [h, n, n]
        mixed = (weights @ value).transpose(0, 1).flatten(1)
        output = self._norm(f"{name}.output", self._linear(f"{name}.output.dense", mixed) + states)
        return output, float(torch.special.entr(weights).sum(dim=2).mean())

    def _feed_forward(self, name: str, states: Tensor) -> Tensor:
        inner = functional.gelu(self._linear(f"{name}.intermediate.dense", states))  # [n, f]
        return self._norm(f"{name}.output", self._linear(f"{name}.output.dense", inner) + states)

    def _linear(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.linear(states.to(self._products), weight, bias).float()

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight = self._weights[f"{name}.LayerNorm.weight"]
        bias = self._weights[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(states, (self.dimensions,), weight, bias, self._epsilon)


def product_type() -> torch.dtype:
    """Return the fastest type of products this processor has instructions for."""
    # torch has no public way to ask; elsewhere bfloat16 is emulated, and slower.
    is_native = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
    return torch.bfloat16 if is_native else torch.float32


def vocabulary_rarity(tokens: Tokens) -> float:
    """Return the share of words that stand as several pieces or as the unknown token.

    The tokenizer splits at punctuation; a piece counts where it holds a letter
    or a digit.
    """
    pieces: dict[int, int] = {}
    for word, token in zip(tokens.word_ids, tokens.tokens, strict=True):
        if word is not None and any(map(str.isalnum, token)):
            # The unknown token is a single piece of a word that is surely rare.
            pieces[word] = pieces.get(word, 0) + (2 if token == "[UNK]" else 1)  # noqa: S105  # no secret
    return sum(count > 1 for count in pieces.values()) / len(pieces) if pieces else 0.0


def _tokenizer(path: pathlib.Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()  # the file pads to 128 for batches; we read one text at a time
    tokenizer.enable_truncation(ENCODER_TOKENS)
    return tokenizer


def _is_linear(name: str) -> bool:
    return name.startswith("encoder.layer.") and "LayerNorm" not in name


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
