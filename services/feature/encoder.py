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

import copy
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
from services.feature.glance import Glance
from services.feature.linear import Linear
from thermesh.errors import InvalidArgument
from thermesh.features import ENCODER_TOKENS


@dataclass(frozen=True)
class HiddenStates:
    """Result of one forward pass: states [n, d], and the attention entropy in [0, 1]."""

    states: Tensor
    attention_entropy: float


@dataclass(frozen=True, eq=False)
class _Block:
    """One layer: its products (query, key and value are one) and the names of its norms."""

    projections: Linear
    mixed: Linear
    inner: Linear
    outer: Linear
    attention_norm: str
    norm: str


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
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._weights = load_file(folder / "model.safetensors")
        self._blocks = [
            self._block(f"encoder.layer.{layer}", products)
            for layer in range(int(config["num_hidden_layers"]))
        ]
        self.name = folder.name
        self.dimensions = int(config["hidden_size"])
        self._tokenizer = _tokenizer(folder / "tokenizer.json")

    @property
    def depth(self) -> int:
        """How many layers are run."""
        return len(self._blocks)

    @property
    def glance(self) -> Glance:
        """What the token vectors say before any layer is run."""
        words, positions, segments, weight, bias = (
            self._weights[f"embeddings.{name}"].numpy()
            for name in (
                "word_embeddings.weight",
                "position_embeddings.weight",
                "token_type_embeddings.weight",
                "LayerNorm.weight",
                "LayerNorm.bias",
            )
        )
        return Glance(words, positions + segments[0], weight, bias, self._epsilon, self._token_ids)

    def _token_ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text[:ENCODER_CHARACTERS]).ids

    def truncated(self, depth: int) -> Encoder:
        """Return an encoder of the first `depth` layers of this one, on the same weights."""
        shallow = copy.copy(self)
        shallow._blocks = self._blocks[:depth]  # noqa: SLF001  # another of this class
        return shallow

    @torch.inference_mode()
    def encode(self, text: str) -> Encoding:
        """Read the first ENCODER_TOKENS tokens of `text`."""
        tokens = self._tokenizer.encode(text[:ENCODER_CHARACTERS])
        hidden = self.forward(tokens.ids)
        mean = hidden.states.mean(dim=0)
        closeness = functional.normalize(hidden.states, dim=1).mean(dim=0) @ _direction(mean)
        return Encoding(
            embedding=_direction(mean).numpy(),
            semantic_complexity=_unit(1.0 - float(closeness)),
            attention_entropy=hidden.attention_entropy,
            vocabulary_rarity=vocabulary_rarity(tokens),
        )

    def count(self, text: str) -> int:
        """Return how many tokens of `text` are read, the special ones included."""
        return len(self._token_ids(text))

    @torch.inference_mode()
    def forward(self, token_ids: list[int]) -> HiddenStates:
        """Return the last hidden states of `token_ids`, which include the special tokens."""
        states, negative_entropy = self._embed(token_ids), torch.zeros(())
        for block in self._blocks:
            attended, rows = self._attend(block, states)
            states = self._feed_forward(block, attended)
            negative_entropy += rows
        entropy_nats = -float(negative_entropy) / (len(self._blocks) * self._heads * len(states))
        return HiddenStates(states, _unit(entropy_nats / math.log(max(2, len(token_ids)))))

    def _embed(self, token_ids: list[int]) -> Tensor:
        """Return word + position + segment embeddings, normalised: [n, d]."""
        words = self._weights["embeddings.word_embeddings.weight"][torch.tensor(token_ids)]
        positions = self._weights["embeddings.position_embeddings.weight"][: len(token_ids)]
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings", words + positions + segment)

    def _attend(self, block: _Block, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output [n, d], and the sum of p ln p over all of its attention."""
        split = (len(states), 3, self._heads, -1)
        query, key, value = block.projections(states).view(split).permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
        logarithms = scores.log_softmax(dim=2)  # [h, n, n]
        weights = logarithms.exp()
        mixed = (weights @ value).transpose(0, 1).flatten(1)
        output = self._norm(block.attention_norm, block.mixed(mixed) + states)
        return output, torch.dot(weights.flatten(), logarithms.flatten())

    def _feed_forward(self, block: _Block, states: Tensor) -> Tensor:
        inner = block.inner(states, "gelu")  # [n, f]
        return self._norm(block.norm, block.outer(inner) + states)

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight = self._weights[f"{name}.LayerNorm.weight"]
        bias = self._weights[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(states, (self.dimensions,), weight, bias, self._epsilon)

    def _block(self, name: str, products: torch.dtype) -> _Block:
        """Take a block's linear layers out of the weights: they are laid out anew."""

        def linear(*parts: str) -> Linear:
            weight, bias = (
                torch.cat([self._weights.pop(f"{name}.{part}.{kind}") for part in parts])
                for kind in ("weight", "bias")
            )
            return Linear.of(weight.to(products), bias.to(products))

        return _Block(
            projections=linear(*(f"attention.self.{part}" for part in ("query", "key", "value"))),
            mixed=linear("attention.output.dense"),
            inner=linear("intermediate.dense"),
            outer=linear("output.dense"),
            attention_norm=f"{name}.attention.output",
            norm=f"{name}.output",
        )


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


def _direction(vector: Tensor) -> Tensor:
    return functional.normalize(vector, dim=0)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
