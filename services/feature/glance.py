"""What the words of a text say by themselves: its token vectors, before any layer is run.

Of the encoder's first step alone, word plus position plus segment, normalised: the mean over
all tokens and the mean over the first ones, where a request says what it wants. It costs a
look-up, so that a task can be named where the encoder is late, or where nobody needs it.

Plain numpy on the weights as they are mapped: for so little work most of what a call of torch
takes is coming back to its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.feature.encoding import Embedding

OPENING = 6
"""Tokens at the beginning that are looked at apart."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Glance:
    """`words` [vocabulary, d], `positions` [length, d] with the segment added, the norm's
    `weight` and `bias` [d]; `tokenise` returns the ids of a text, the special ones included.
    """

    words: Floats
    positions: Floats
    weight: Floats
    bias: Floats
    epsilon: float
    tokenise: Callable[[str], list[int]]

    def __call__(self, text: str) -> Embedding:
        """Return two directions, each of length one: float32 [2 d]."""
        ids = self.tokenise(text)
        states = self.words[ids] + self.positions[: len(ids)]
        states -= states.mean(axis=1, keepdims=True)
        states /= np.sqrt((states * states).mean(axis=1, keepdims=True) + self.epsilon)
        inner = (states * self.weight + self.bias)[1:-1]
        means = (inner.mean(axis=0), inner[:OPENING].mean(axis=0)) if len(inner) else ()
        found = [each / max(float(np.linalg.norm(each)), 1e-9) for each in means]
        return np.concatenate(found) if found else np.zeros(2 * self.words.shape[1], np.float32)
