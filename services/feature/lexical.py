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


@dataclass(frozen=True)
class Counts:
    """What the features of a text follow from. Those of texts that stand one after the other
    add up, where the second begins after a space or a sentence's end: a text that grows is
    then read once.

    `stretches`: whether each stretch between sentence ends holds a word; only the first and
    the last are kept apart, `sentences` counts those between that do.
    """

    words: int
    vocabulary: frozenset[str]
    terms: int
    opening: str
    has_question_mark: bool
    clauses: int
    digits: int
    code_marks: int
    solid: int
    stretches: tuple[bool, ...]
    sentences: int

    @property
    def sentence_count(self) -> int:
        """How many stretches between sentence ends hold a word."""
        return self.sentences + sum(self.stretches)

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both texts as one."""
        # the last stretch of the one goes on in the first of the other
        joined = self.stretches[-1] or other.stretches[0]
        stretches = (*self.stretches[:-1], joined, *other.stretches[1:])
        return Counts(
            words=self.words + other.words,
            vocabulary=self.vocabulary | other.vocabulary,
            terms=self.terms + other.terms,
            opening=self.opening or other.opening,
            has_question_mark=self.has_question_mark or other.has_question_mark,
            clauses=self.clauses + other.clauses,
            digits=self.digits + other.digits,
            code_marks=self.code_marks + other.code_marks,
            solid=self.solid + other.solid,
            stretches=_ends(stretches),
            sentences=self.sentences + other.sentences + sum(stretches[1:-1]),
        )

    def features(self) -> LexicalFeatures:
        """Return the features of the text that was counted."""
        words, solid, sentences = self.words, self.solid, self.sentence_count
        return LexicalFeatures(
            words=words,
            length=_log_share(words, MOST_WORDS),
            sentence_count=_log_share(sentences, MOST_SENTENCES),
            sentence_length=_share(words, sentences * LONGEST_SENTENCE_WORDS),
            clause_density=_share(self.clauses, sentences * DENSEST_CLAUSES),
            type_token_ratio=_share(len(self.vocabulary), words) if words else 1.0,
            digit_ratio=_share(self.digits, solid),
            code_ratio=_share(4 * self.code_marks, solid),
            question=float(self.has_question_mark or self.opening in _QUESTION_OPENINGS),
            terminology_density=_share(self.terms, words),
        )


def count(text: str) -> Counts:
    """Count what the features of `text` follow from."""
    words = split_words(text)
    folded = [word.casefold() for word in words]
    stretches = tuple(WORD.search(each) is not None for each in _SENTENCE_END.split(text))
    return Counts(
        words=len(words),
        vocabulary=frozenset(folded),
        terms=sum(map(is_term, words)),
        opening=_opening(words[0]) if words else "",
        has_question_mark=bool(_QUESTION_MARKS.search(text)),
        clauses=_clauses(text, folded),
        digits=sum(map(str.isdecimal, text)),
        code_marks=len(_CODE_MARKS.findall(text)),
        solid=len(text) - sum(map(str.isspace, text)),
        stretches=_ends(stretches),
        sentences=sum(stretches[1:-1]),
    )


def read(text: str) -> LexicalFeatures:
    """Return the lexical features of the first LEXICAL_CHARACTERS of `text`."""
    return count(text[:LEXICAL_CHARACTERS]).features()


def split_words(text: str) -> list[str]:
    """Return the words of `text` in order."""
    return (_ASCII_WORD if text.isascii() else WORD).findall(text)


def is_question(text: str) -> bool:
    """Tell whether `text` has a question mark or opens with an English question word."""
    opening = WORD.search(text)
    return bool(_QUESTION_MARKS.search(text)) or (
        opening is not None and _opening(opening.group()) in _QUESTION_OPENINGS
    )


def is_term(word: str) -> bool:
    """Tell whether `word` looks like a term of some trade: long, `iOS`, `HTTP`, `x86`."""
    return len(word) >= _TERM_LENGTH or bool(_TERM.search(word))


def speech_rate(words: int, speech_seconds: float) -> float:
    """Return words a second over the fastest rate we tell apart; 0 for no speech."""
    return _share(words, speech_seconds * FASTEST_SPEECH_WORDS_PER_SECOND)


def _opening(word: str) -> str:
    return word.casefold().replace("’", "'")


def _clauses(text: str, folded_words: list[str]) -> int:
    counts = Counter(folded_words)
    subordinators = sum(counts[word] for word in _SUBORDINATORS)
    return len(_CLAUSE_MARKS.findall(text)) + subordinators


def _ends(stretches: tuple[bool, ...]) -> tuple[bool, ...]:
    return stretches if len(stretches) == 1 else (stretches[0], stretches[-1])


def _log_share(count: int, most: int) -> float:
    return min(1.0, math.log1p(count) / math.log1p(most))


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 0.0
