# ruff: noqa: RUF001  # full-width and typographic punctuation is meant
"""A text that grows: what is finished of it is read once, and only its open end again.

A text is cut into segments after each sentence, and after SEGMENT_WORDS words where nobody
writes sentences, as in transcripts. Where a segment ends depends on what stands before it
and the one character behind it, so a longer text has the same segments but for the last.

Lexical counts of segments add up exactly. The encoder attends to both sides, so the
encoding of a whole text cannot be had from those of its segments; `pooled` is their mean
weighted by words, and stands in for it while a text still grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from services.feature import lexical
from services.feature.encoding import Encoding
from services.feature.lexical import Counts, LexicalFeatures
from thermesh.features import LEXICAL_CHARACTERS

SEGMENT_WORDS = 24

_ENDED = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？｡]+|[\n\r\u2028\u2029]+")
_CUT = re.compile(rf"{_ENDED.pattern}|\s+")


class Growing:
    """The newest text of a stream; `grow` it, then ask."""

    def __init__(self) -> None:
        self._closed: list[str] = []
        self._closed_text = self._open = ""
        self._counts: Counts = lexical.count("")

    def grow(self, text: str) -> None:
        """Take the newest text in; one that began otherwise is read anew."""
        text = text[:LEXICAL_CHARACTERS]
        if not text.startswith(self._closed_text):
            self._closed, self._closed_text, self._counts = [], "", lexical.count("")
        for segment in cut(text[len(self._closed_text) :]):
            self._closed.append(segment)
            self._closed_text += segment
            self._counts += lexical.count(segment)
        self._open = text[len(self._closed_text) :]

    @property
    def segments(self) -> list[str]:
        """All segments that hold a word, the open one last; together they are the text."""
        return [each for each in (*self._closed, self._open) if lexical.WORD.search(each)]

    def features(self) -> LexicalFeatures:
        """Return the lexical features, the same as of the whole text."""
        return (self._counts + lexical.count(self._open)).features()


def cut(text: str) -> Iterator[str]:
    """Yield the finished segments of `text`, which begins with a new one."""
    began, words = 0, 0
    for match in _CUT.finditer(text):
        if match.end() == len(text):
            return  # more of the same may follow
        words += 1
        if words >= SEGMENT_WORDS or _ENDED.fullmatch(match.group()):
            yield text[began : match.end()]
            began, words = match.end(), 0


def pooled(segments: Sequence[str], encodings: Sequence[Encoding]) -> Encoding:
    """Return the mean of the segments' encodings, weighted by their words."""
    words = np.array([max(1, len(lexical.split_words(each))) for each in segments], np.float64)
    weights = words / words.sum()
    mean = weights @ np.stack([each.embedding for each in encodings])
    length = float(np.linalg.norm(mean))
    features = weights @ np.array(
        [
            (each.semantic_complexity, each.attention_entropy, each.vocabulary_rarity)
            for each in encodings
        ]
    )
    embedding = mean / length if length > 0.0 else encodings[0].embedding
    return Encoding(np.asarray(embedding, np.float32), *np.clip(features, 0.0, 1.0).tolist())
