"""What the encoder says of a text, and its form at rest.

Kept apart from `encoder`, so that caches, sessions and tests need no torch.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermesh.features import ENCODER_TOKENS, SCHEMA_VERSION

Embedding = npt.NDArray[np.float32]

ENCODER_CHARACTERS = 32 * ENCODER_TOKENS
"""How much of a text is tokenised at all: the tokens end long before this in any
language, and the tokenizer would read a whole megabyte only to truncate it."""

_HEADER = struct.Struct("<HHfff")  # schema, dimensions, complexity, attention entropy, rarity


@dataclass(frozen=True, eq=False)
class Encoding:
    """The encoder's reading of one text.

    `embedding`: float32 of the encoder's width, mean of the last hidden
    states, of length one. The three others are features, each in [0, 1].
    """

    embedding: Embedding
    semantic_complexity: float
    attention_entropy: float
    vocabulary_rarity: float


def pack(encoding: Encoding) -> bytes:
    """Return `encoding` as bytes; the embedding keeps 16 bits a number, enough for a cosine."""
    header = _HEADER.pack(
        SCHEMA_VERSION,
        encoding.embedding.size,
        encoding.semantic_complexity,
        encoding.attention_entropy,
        encoding.vocabulary_rarity,
    )
    return header + encoding.embedding.astype("<f2").tobytes()


def unpack(value: bytes, dimensions: int) -> Encoding | None:
    """Return what `pack` made, or None where `value` is not that.

    A shared store is not trusted to hold what this version would write.
    """
    if len(value) != _HEADER.size + 2 * dimensions:
        return None
    schema, size, *features = _HEADER.unpack_from(value)
    if (schema, size) != (SCHEMA_VERSION, dimensions):
        return None
    embedding = np.frombuffer(value, "<f2", offset=_HEADER.size).astype(np.float32)
    if not all(0.0 <= feature <= 1.0 for feature in features) or not _is_unit(embedding):
        return None
    return Encoding(embedding, *features)


def settle(encoding: Encoding) -> Encoding:
    """Return `encoding` as a cache would give it back.

    Fresh and cached readings of a text then give the same vector, bit for bit.
    """
    return unpack(pack(encoding), encoding.embedding.size) or encoding


def cosine(left: Embedding, right: Embedding) -> float:
    """Return the cosine of the angle between two vectors, 0 where one has no length."""
    lengths = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    return max(-1.0, min(1.0, float(left @ right) / lengths)) if lengths > 0.0 else 0.0


def _is_unit(embedding: Embedding) -> bool:
    return math.isclose(float(np.linalg.norm(embedding)), 1.0, abs_tol=0.01)
