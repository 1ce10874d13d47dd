"""An answer cut into clauses while it is written, so that speech begins with the first few words.

The first clause is let go at any punctuation or after FIRST_WORDS words; later
ones, whose synthesis hides behind the speech before them, at the end of a
sentence, or at a lesser pause once they have some length.
"""

from __future__ import annotations

import re

FIRST_WORDS = 6
LATER_WORDS = 8
MOST_WORDS = 30

# Space must follow, so that 3.5 and U.S. within a line of digits or letters stay whole.
_PAUSE = re.compile(r"[.!?;:,\u2026\u2014]+[\"')\]]*\s+|\n+")
_SENTENCE = re.compile(r"[.!?\u2026]+[\"')\]]*\s+|\n+")


class Clauses:
    """Feed it text; it returns clauses that are complete."""

    def __init__(self) -> None:
        self._text = ""
        self._is_first = True

    def feed(self, text: str) -> list[str]:
        """Return the clauses that `text` completes, with the space that follows them."""
        self._text += text
        clauses = []
        while (end := self._end()) is not None:
            clauses.append(self._text[:end])
            self._text = self._text[end:]
            self._is_first = False
        return clauses

    def rest(self) -> list[str]:
        """Return what is left when the answer has ended."""
        rest, self._text = self._text, ""
        return [rest] if rest else []

    def _end(self) -> int | None:
        least = 1 if self._is_first else LATER_WORDS
        most = FIRST_WORDS if self._is_first else MOST_WORDS
        words_so_far = list(re.finditer(r"\S+\s+", self._text))
        longest = words_so_far[most - 1].end() if len(words_so_far) >= most else None
        for mark in _PAUSE.finditer(self._text, 0, longest or len(self._text)):
            words = len(self._text[: mark.end()].split())
            if words >= least or (words and _SENTENCE.fullmatch(mark.group())):
                return mark.end()
        return longest
