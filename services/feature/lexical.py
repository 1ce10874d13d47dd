# ruff: noqa: RUF001  # full-width and typographic punctuation is meant
"""Lexical features: what a text shows without a model, in one pass of regular expressions.

`thermesh.features` defines the terms (word, sentence, term) and every value.
All functions are total: any Unicode text gives finite numbers in range.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from thermesh.features import LEXICAL_CHARACTERS

# Scripts that put no space between words: kana, Han with its extensions.
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# Combining marks that Python's \w leaves out: Latin, Hebrew, Arabic, the Indic
# blocks (without their full stops U+0964 and U+0965), Thai and Lao.
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0eff"
_LETTER = rf"(?:(?![{_UNSPACED}])(?:[^\W_]|[{_MARKS}]))"
WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:['’\-]{_LETTER}+)*")
# The same for ASCII, where no script needs telling apart: a third of the time.
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+(?:['\-][A-Za-z0-9]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?=[\s\"'”’)\]]|$)|[。！？｡]+|[\n\r\u2028\u2029]+")
_SUBORDINATORS = frozenset(
    (
        *("after", "although", "as", "because", "before", "if", "since", "that", "though"),
        *("unless", "until", "when", "whenever", "where", "whereas", "wherever", "whether"),
        *("which", "while", "who", "whom", "whose"),
    )
)
_CLAUSE_MARKS = re.compile(r"[,;:，；：、]")
_CODE_MARKS = re.compile(r"[{}\[\]();=<>_`|&#$@~^\\]")
_QUESTION_MARKS = re.compile(r"[?？؟;]")
_QUESTION_OPENINGS = frozenset(
    (
        *("am", "are", "can", "could", "did", "do", "does", "had", "has", "have", "how", "is"),
        *("may", "might", "shall", "should", "was", "were", "what", "what's", "when", "when's"),
        *("where", "where's", "which", "who", "who's", "whom", "whose", "why", "will", "would"),
    )
)
_TERM = re.compile(r"^.+[A-Z]|^(?=.*[^\W\d_])(?=.*\d)", re.DOTALL)
_TERM_LENGTH = 10

MOST_WORDS = 4096
MOST_SENTENCES = 64
LONGEST_SENTENCE_WORDS = 40
DENSEST_CLAUSES = 5
FASTEST_SPEECH_WORDS_PER_SECOND = 6.0


@dataclass(frozen=True)
class LexicalFeatures:
    """The lexical members of the vector, each in [0, 1], and the words counted."""

    words: int
    length: float
    sentence_count: float
    sentence_length: float
    clause_density: float
    type_token_ratio: float
    digit_ratio: float
    code_ratio: float
    question: float
    terminology_density: float


def read(text: str) -> LexicalFeatures:
    """Return the lexical features of the first LEXICAL_CHARACTERS of `text`."""
    text = text[:LEXICAL_CHARACTERS]
    words = split_words(text)
    folded = [word.casefold() for word in words]
    sentences = count_sentences(text)
    solid = len(text) - sum(map(str.isspace, text))
    return LexicalFeatures(
        words=len(words),
        length=_log_share(len(words), MOST_WORDS),
        sentence_count=_log_share(sentences, MOST_SENTENCES),
        sentence_length=_share(len(words), sentences * LONGEST_SENTENCE_WORDS),
        clause_density=_share(_clauses(text, folded), sentences * DENSEST_CLAUSES),
        type_token_ratio=_share(len(set(folded)), len(words)) if words else 1.0,
        digit_ratio=_share(sum(map(str.isdecimal, text)), solid),
        code_ratio=_share(4 * len(_CODE_MARKS.findall(text)), solid),
        question=float(is_question(text)),
        terminology_density=_share(sum(map(is_term, words)), len(words)),
    )


def split_words(text: str) -> list[str]:
    """Return the words of `text` in order."""
    return (_ASCII_WORD if text.isascii() else WORD).findall(text)


def count_sentences(text: str) -> int:
    """Count the stretches between sentence ends that hold a word."""
    return sum(1 for stretch in _SENTENCE_END.split(text) if WORD.search(stretch))


def is_question(text: str) -> bool:
    """Tell whether `text` has a question mark or opens with an English question word."""
    opening = WORD.search(text)
    return bool(_QUESTION_MARKS.search(text)) or (
        opening is not None and opening.group().casefold().replace("’", "'") in _QUESTION_OPENINGS
    )


def is_term(word: str) -> bool:
    """Tell whether `word` looks like a term of some trade: long, `iOS`, `HTTP`, `x86`."""
    return len(word) >= _TERM_LENGTH or bool(_TERM.search(word))


def speech_rate(words: int, speech_seconds: float) -> float:
    """Return words a second over the fastest rate we tell apart; 0 for no speech."""
    return _share(words, speech_seconds * FASTEST_SPEECH_WORDS_PER_SECOND)


def _clauses(text: str, folded_words: list[str]) -> int:
    counts = Counter(folded_words)
    subordinators = sum(counts[word] for word in _SUBORDINATORS)
    return len(_CLAUSE_MARKS.findall(text)) + subordinators


def _log_share(count: int, most: int) -> float:
    return min(1.0, math.log1p(count) / math.log1p(most))


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 0.0
