"""The schema of the feature vector: what feature writes and controller reads.

The two rooms may not import each other and a vector without names is a trap,
so its order, ranges and neutral values are part of the public contract. A
change of meaning raises SCHEMA_VERSION and the controller refuses the old one.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 1

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
        " token's state and their mean",
        0.5,
    ),
    _unit(
        "attention_entropy",
        "entropy of the encoder's attention rows, averaged over layers, heads and tokens,"
        " divided by ln(tokens): context dependence",
        0.5,
    ),
    _unit("length", "ln(1 + words) / ln(1 + 4096), at most 1"),
    _unit("vocabulary_rarity", "share of words that the encoder splits into several pieces"),
    _unit("sentence_count", "ln(1 + sentences) / ln(1 + 64), at most 1"),
    _unit("sentence_length", "mean words a sentence / 40, at most 1"),
    _unit("clause_density", "commas, semicolons, colons and subordinators a sentence / 5"),
    _unit("type_token_ratio", "distinct words / words", 1.0),
    _unit("digit_ratio", "digits / characters that are not space"),
    _unit("code_ratio", "code marks / characters that are not space, times 4, at most 1"),
    _unit("question", "1 where the text asks, by question mark or opening word"),
    _unit("turn_count", "ln(turns) / ln(64), at most 1"),
    _unit("topic_shift", "1 minus the cosine to the session's running mean embedding, halved"),
    _unit("urgency", "1 - exp(-waited / 2 s), or 1 - remaining / 10 s where that is more"),
    _unit("speech_rate", "words a second of speech / 6, at most 1; 0 for typed text"),
    _unit("terminology_density", "share of words that look like terms: rare and long, or capitals"),
    _unit("voice", "1 where the text was spoken"),
    *(_unit(f"task_{task}", f"probability that the task is {task}", 1 / 7) for task in TASKS),
    _unit("encoder", "1 where the encoder was used, 0 on the lexical path"),
)
"""Features in vector order; the neutral value stands where one was not measured."""

INDEX: dict[str, int] = {feature.name: index for index, feature in enumerate(FEATURES)}
"""Position of each feature by name."""
