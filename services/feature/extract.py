"""Puts together the feature vector: pure, from values alone.

What could not be measured keeps the neutral value of its definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.feature.encoding import Encoding
from services.feature.lexical import LexicalFeatures, speech_rate
from services.feature.session import Session
from services.feature.task import TaskGuess
from thermesh.errors import InvalidArgument
from thermesh.features import FEATURES, INDEX, TASKS

MOST_TEXT_BYTES = 1 << 20
MOST_TURNS = 64
WAITING_SECONDS = 2.0
"""Time constant of impatience."""
HURRY_SECONDS = 10.0
"""A deadline farther away than this is no hurry."""


@dataclass(frozen=True)
class Reading:
    """One request to read.

    `speech_seconds` is None for typed text; `deadline_unix_ms` is 0 without one;
    `encoder_wait_seconds` is the longest wait for the encoder, None without a bound.
    """

    text: str
    tenant: str = "default"
    session_id: str = ""
    turn_count: int = 1
    waited_seconds: float = 0.0
    deadline_unix_ms: int = 0
    speech_seconds: float | None = None
    encoder_wait_seconds: float | None = None


@dataclass(frozen=True)
class Vector:
    """The vector in schema order, and the task named, empty where none was."""

    values: tuple[float, ...]
    task: str
    task_confidence: float
    encoder_used: bool


def check_text(text: str, field: str) -> None:
    """Raise InvalidArgument naming `field` where `text` is empty or over 1 MiB."""
    if not text:
        raise InvalidArgument(f"{field} must not be empty", field=field)
    if len(text) > MOST_TEXT_BYTES or len(text.encode()) > MOST_TEXT_BYTES:
        raise InvalidArgument(f"{field} must be at most 1 MiB of UTF-8", field=field)


def assemble(
    reading: Reading,
    *,
    lexical: LexicalFeatures,
    guess: TaskGuess,
    encoding: Encoding | None,
    session: Session | None,
    now_unix_ms: int,
) -> Vector:
    """Return the vector of `reading`; `encoding` is None on the lexical path."""
    measured = _of_lexical(lexical) | _of_request(reading, lexical.words, now_unix_ms)
    measured |= {f"task_{task}": p for task, p in zip(TASKS, guess.probabilities, strict=True)}
    if encoding:
        measured |= _of_encoding(encoding, session)
    values = [feature.neutral for feature in FEATURES]
    for name, value in measured.items():
        values[INDEX[name]] = value
    return Vector(tuple(values), guess.task, guess.confidence, encoding is not None)


def urgency(waited_seconds: float, remaining_seconds: float | None) -> float:
    """Return how much hurry there is, in [0, 1]; `remaining_seconds` None: no deadline."""
    impatience = 1.0 - math.exp(-waited_seconds / WAITING_SECONDS)
    if remaining_seconds is None:
        return impatience
    return min(1.0, max(impatience, 1.0 - remaining_seconds / HURRY_SECONDS))


def _of_lexical(lexical: LexicalFeatures) -> dict[str, float]:
    return {
        "length": lexical.length,
        "sentence_count": lexical.sentence_count,
        "sentence_length": lexical.sentence_length,
        "clause_density": lexical.clause_density,
        "type_token_ratio": lexical.type_token_ratio,
        "digit_ratio": lexical.digit_ratio,
        "code_ratio": lexical.code_ratio,
        "question": lexical.question,
        "terminology_density": lexical.terminology_density,
    }


def _of_request(reading: Reading, words: int, now_unix_ms: int) -> dict[str, float]:
    deadline = reading.deadline_unix_ms
    remaining_seconds = (deadline - now_unix_ms) / 1000 if deadline else None
    return {
        "turn_count": min(1.0, math.log(max(1, reading.turn_count)) / math.log(MOST_TURNS)),
        "urgency": urgency(reading.waited_seconds, remaining_seconds),
        "speech_rate": speech_rate(words, reading.speech_seconds or 0.0),
        "voice": float(reading.speech_seconds is not None),
    }


def _of_encoding(encoding: Encoding, session: Session | None) -> dict[str, float]:
    return {
        "semantic_complexity": encoding.semantic_complexity,
        "attention_entropy": encoding.attention_entropy,
        "vocabulary_rarity": encoding.vocabulary_rarity,
        "topic_shift": session.topic_shift(encoding.embedding) if session else 0.0,
        "encoder": 1.0,
    }
