"""Which words of an answer had been heard when playback stopped.

Speech is made clause by clause, so that the time of a clause's end is known
exactly; within a clause words are taken to be spoken evenly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Timeline:
    """Text and length of each clause spoken so far, in order."""

    def __init__(self) -> None:
        self._clauses: list[tuple[str, float]] = []

    @property
    def length_ms(self) -> float:
        """Length of all speech so far."""
        return sum(length for _, length in self._clauses)

    def add(self, text: str, length_ms: float) -> None:
        """Note a clause that was spoken."""
        self._clauses.append((text, length_ms))

    def heard(self, until_ms: float) -> str:
        """Return the text heard until then, in whole words."""
        heard = ""
        for text, length_ms in self._clauses:
            if until_ms < length_ms:
                return heard + _words(text, until_ms / length_ms)
            heard += text
            until_ms -= length_ms
        return heard


def heard_tokens(pieces: Sequence[str], heard: str) -> int:
    """Return how many of the tokens' texts lie wholly within `heard`."""
    length = 0
    for count, piece in enumerate(pieces):
        length += len(piece)
        if length > len(heard):
            return count
    return len(pieces)


def _words(text: str, share: float) -> str:
    words = list(re.finditer(r"\s*\S+", text))
    said = int(len(words) * max(0.0, share))
    return text[: words[said - 1].end()] if said else ""
