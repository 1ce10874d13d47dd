"""How many prompt tokens a step may compute without holding running streams up.

A step that only decodes takes a time that depends on how many sequences are in
it; each prompt token makes it longer. Both are learned from the steps
themselves: the median of recent decode steps of about that many sequences, and
the median of the latest costs of a prompt token. The allowance of a step is
what keeps it within `stretch` times the decode step. The cost follows the
length of the context and the company on the cores within a few steps.
"""

from __future__ import annotations

import statistics
from collections import deque

FEWEST_TOKENS = 8
"""Prompt tokens that a step takes whatever it costs, so that a prompt always
gets on. Reading the weights once more for fewer of them would be a waste."""

_DECODE_STEPS = 32
_PROMPT_STEPS = 5


class Pace:
    """Learns from steps; times are in seconds."""

    def __init__(self, stretch: float) -> None:
        self._stretch = stretch
        self._decode_seconds: dict[int, deque[float]] = {}
        self._prompt_seconds: deque[float] = deque(maxlen=_PROMPT_STEPS)

    def observe(self, seconds: float, decoding: int, prompt_tokens: int) -> None:
        """Learn from a step of `decoding` sequences and `prompt_tokens`."""
        if not prompt_tokens:
            times = self._decode_seconds.setdefault(_size(decoding), deque(maxlen=_DECODE_STEPS))
            times.append(seconds)
        elif (base := self._decode_step(decoding)) is not None:
            # Not less than nothing: a step may be faster than the median one.
            self._prompt_seconds.append(max(0.0, seconds - base) / prompt_tokens)

    def allowance(self, decoding: int, most: int) -> int:
        """Return how many of at most `most` prompt tokens may join a step in
        which `decoding` sequences decode.
        """
        if not decoding:
            return most
        base = self._decode_step(decoding)
        if base is None or not self._prompt_seconds:
            return min(FEWEST_TOKENS, most)
        spare = (self._stretch - 1) * base
        cost = statistics.median(self._prompt_seconds)
        affordable = most if cost * most <= spare else int(spare / cost)
        return min(max(FEWEST_TOKENS, affordable), most)

    def _decode_step(self, decoding: int) -> float | None:
        """Return the median time of a step that decodes about so many; where
        none did, of the next smaller size, else of the smallest. A step of
        prompts alone has the fixed part of a decode step too.
        """
        known = sorted(self._decode_seconds)
        if not known:
            return None
        below = [size for size in known if size <= _size(decoding)]
        return statistics.median(self._decode_seconds[below[-1] if below else known[0]])


def _size(decoding: int) -> int:
    """Return the power of two below which the count lies, as its exponent."""
    return max(1, decoding).bit_length()
