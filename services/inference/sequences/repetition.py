"""How much an output repeats itself: the sign of a decoding loop."""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 4
NGRAM_WINDOW = 64
"""Tokens of a running output that are looked at."""


def repetition(token_ids: Sequence[int]) -> float:
    """Return the share, in [0, 1], of 4-grams that occurred before in `token_ids`."""
    count = len(token_ids) - NGRAM + 1
    if count < 1:
        return 0.0
    distinct = {tuple(token_ids[start : start + NGRAM]) for start in range(count)}
    return 1 - len(distinct) / count
