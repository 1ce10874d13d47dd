"""The schema of the feature vector: what feature writes and controller reads.

The two rooms may not import each other and a vector without names is a trap,
so its order, ranges and neutral values are part of the public contract. A
change of meaning raises SCHEMA_VERSION and the controller refuses the old one.

Words, here: a word is a run of letters, digits and combining marks, joined by
single inner apostrophes or hyphens; in scripts that put no space between words
(Han, kana) every character is one. A sentence is a stretch with at least one
word, ended by `.`, `!`, `?` or an ellipsis before a space or the end, by their
full-width forms anywhere, or by a line break. Lexical features read the first
LEXICAL_CHARACTERS of a text, the encoder its first ENCODER_TOKENS tokens, so
that the cost of a request does not grow with its text.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 1

LEXICAL_CHARACTERS = 32_768
"""How much of a text the lexical features read; English reaches the maximum of `length` before."""

ENCODER_TOKENS = 256
"""How many tokens of a text the encoder reads, its two special tokens included."""

TASKS = (
    "generation",
    "classification",
    "question_answering",
    "code",
    "translation",
    "arithmetic",
    "chat",
)
"""Tasks in the order of the proto enum `Task`, which numbers them from 1."""


@dataclass(frozen=True)
class Feature:
    """Definition of one member of the vector."""

    name: str
    description: str
    minimum: float
    maximum: float
    neutral: float


def _unit(name: str, description: str, neutral: float = 0.0) -> Feature:
    return Feature(name, description, 0.0, 1.0, neutral)


FEATURES: tuple[Feature, ...] = (
    _unit(
        "semantic_complexity",
        "dispersion of the encoder's last hidden states: 1 minus the mean cosine between each"
        " token's state and the mean state, special tokens included",
        0.5,
    ),
    _unit(
        "attention_entropy",
        "entropy of the encoder's attention rows, averaged over layers, heads and tokens,"
        " divided by ln(tokens), special tokens included: context dependence",
        0.5,
    ),
    _unit("length", "ln(1 + words) / ln(1 + 4096), at most 1"),
    _unit(
        "vocabulary_rarity",
        "share of the encoder's words that it splits into several pieces or does not know",
    ),
    _unit("sentence_count", "ln(1 + sentences) / ln(1 + 64), at most 1"),
    _unit("sentence_length", "words / sentences / 40, at most 1; 0 without a sentence"),
    _unit(
        "clause_density",
        "commas, semicolons, colons and English subordinators / sentences / 5, at most 1",
    ),
    _unit("type_token_ratio", "distinct words regardless of case / words; 1 without a word", 1.0),
    _unit("digit_ratio", "decimal digits / characters that are not space"),
    _unit(
        "code_ratio",
        "code marks {}[]();=<>_`|&#$@~^ and backslash / characters that are not space, times 4,"
        " at most 1",
    ),
    _unit("question", "1 where the text has a question mark or opens as an English question"),
    _unit("turn_count", "ln(turns) / ln(64), at most 1"),
    _unit(
        "topic_shift",
        "1 minus the cosine to the mean embedding of the session's earlier turns, halved",
    ),
    _unit("urgency", "1 - exp(-waited / 2 s), or 1 - remaining / 10 s where that is more"),
    _unit("speech_rate", "words a second of speech / 6, at most 1; 0 for typed text"),
    _unit(
        "terminology_density",
        "share of words that look like terms: 10 characters or more, a capital after the first"
        " character, or letters mixed with digits",
    ),
    _unit("voice", "1 where the text was spoken"),
    *(_unit(f"task_{task}", f"probability that the task is {task}", 1 / 7) for task in TASKS),
    _unit("encoder", "1 where the encoder was used, 0 on the lexical path"),
)
"""Features in vector order; the neutral value stands where one was not measured."""

INDEX: dict[str, int] = {feature.name: index for index, feature in enumerate(FEATURES)}
"""Position of each feature by name."""
