"""Verifiers: how good an answer is, found without a person and without a model.

Each is a pure function of the answer's text and of what is known about the task,
and returns a reward in [0, 1]. They judge the study of decoding policies, and a
client that knows its task can send what they return as feedback.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_INTEGER = re.compile(r"-?\d+")
_MARKER = re.compile(r"^\s*(?:[-*\u2022]|\(?\d+[.):])?\s*")


def words(text: str) -> list[str]:
    """Return the words of `text` in lower case, without punctuation."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def contains(text: str, answer: str) -> float:
    """Return 1 where `text` has all words of `answer` one after another."""
    return float(f" {' '.join(words(answer))} " in f" {' '.join(words(text))} ")


def label(text: str, answer: str, labels: Sequence[str]) -> float:
    """Return 1 where the first of `labels` that `text` names is `answer`."""
    known = {each.lower() for each in labels}
    named = [word for word in words(text) if word in known]
    return float(bool(named) and named[0] == answer.lower())


def integer(text: str, answer: int) -> float:
    """Return 1 where the last integer of `text` is `answer`; commas may group thousands."""
    found = _INTEGER.findall(re.sub(r"(?<=\d),(?=\d{3})", "", text))
    return float(bool(found) and int(found[-1][:20]) == answer)


def json_fields(text: str, fields: Mapping[str, str | int]) -> float:
    """Return 0.25 for one valid JSON object, and 0.75 times the share of `fields` it has right.

    What stands before the first and after the matching last brace does not count.
    """
    found = _object_in(text)
    if found is None:
        return 0.0
    given = {str(key).lower(): value for key, value in found.items()}
    right = sum(_same(given.get(key.lower()), value) for key, value in fields.items())
    return 0.25 + 0.75 * right / len(fields)


def distinct_items(text: str, count: int) -> float:
    """Return the share of `count` that are different lines with a word, at most 1."""
    lines = (_MARKER.sub("", line) for line in text.splitlines())
    items = {" ".join(words(line)) for line in lines}
    return min(1.0, len(items - {""}) / count)


def same_words(text: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of words (ROUGE-L without stemming)."""
    given, wanted = text.split(), reference.split()
    common = _common_subsequence(given, wanted)
    return 2.0 * common / (len(given) + len(wanted)) if common else 0.0


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the pairs of neighbouring words."""
    found = words(text)
    return list(itertools.pairwise(found))


def distinct_pairs(text: str, stock: AbstractSet[tuple[str, str]] = frozenset()) -> float:
    """Return the share of word pairs that are different from one another and not in `stock`.

    This is distinct-2 (Li et al. 2016), which counts over a whole collection of answers; `stock`
    stands for the rest of the collection: pairs that are in many of them.
    """
    found = pairs(text)
    return len(set(found) - stock) / len(found) if found else 0.0


def likelihood_gate(mean_log_probability: float, low: float = -5.5, high: float = -3.5) -> float:
    """Return 1 for text the model finds likely (nats a token), 0 for noise, a ramp between."""
    return min(1.0, max(0.0, (mean_log_probability - low) / (high - low)))


def _object_in(text: str) -> dict[str, Any] | None:
    first = text.find("{")
    if first < 0:
        return None
    found: dict[str, Any]
    try:
        found, _ = json.JSONDecoder().raw_decode(text[first:])
    except (ValueError, RecursionError):
        return None
    return found


def _same(given: Any, wanted: str | int) -> bool:
    return str(given).strip().lower() == str(wanted).lower()


def _common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for index, other in enumerate(right, 1):
            above = row[index]
            row[index] = before + 1 if word == other else max(above, row[index - 1])
            before = above
    return row[-1]
