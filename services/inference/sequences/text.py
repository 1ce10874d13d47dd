"""Turns the bytes of tokens into text that may be shown at once.

Two things are held back: bytes of a character that is not complete, and text
that may become a stop string. Nothing shown is ever taken back.
"""

from __future__ import annotations

import codecs


class Detokenizer:
    """Text of one output, piece by piece.

    The generation stops at the stop string that is complete first (of several
    complete at the same character, the one that began first), which does not
    depend on how the bytes were split into tokens.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self.stopped = False
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, piece: bytes) -> str:
        """Take the bytes of one token; return the text that can be shown now."""
        return self._advance(self._decoder.decode(piece))

    def flush(self) -> str:
        """Return what was held back; call it when no token follows."""
        shown = self._advance(self._decoder.decode(b"", final=True))
        if not self.stopped:
            shown, self._held = shown + self._held, ""
        return shown

    def _advance(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return text
        self._held += text
        end = self._stop_position()
        self.stopped = end is not None
        if end is None:
            end = len(self._held) - self._undecided()
        shown, self._held = self._held[:end], self._held[end:]
        return shown

    def _stop_position(self) -> int | None:
        found = [(self._held.find(stop), stop) for stop in self._stop]
        matches = [(start + len(stop), start) for start, stop in found if start >= 0]
        return min(matches)[1] if matches else None

    def _undecided(self) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        return max((_overlap(self._held, stop) for stop in self._stop), default=0)


def _overlap(text: str, stop: str) -> int:
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
