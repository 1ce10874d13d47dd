"""Guesses at what a sequence says next, from what it was told or said before.

Prompt lookup: where the last tokens occurred earlier, what followed then is
likely to follow again. No draft model; the longest match wins, the newest of
equally long ones (Saxena, 2023, https://github.com/apoorvumang/prompt-lookup-decoding;
suffix matching as in Oliaro et al., 2024, https://arxiv.org/abs/2411.04975).
A guess costs a row of the next step and never changes the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SHORTEST_MATCH = 2
LONGEST_MATCH = 16
"""Tokens that are compared at most: a longer match foretells no better."""

_PLACES = 4
"""Latest occurrences of a pair of tokens that are looked at."""

_INDEXED_AT_ONCE = 2048
"""Tokens put into the index in one step, about a millisecond: a long prompt
must not hold up the streams beside it."""


@dataclass(frozen=True)
class Draft:
    """Guessed tokens, at least one; `match` tokens before them matched, 0 where they
    were not looked up.
    """

    token_ids: tuple[int, ...]
    match: int


class Suffixes:
    """Where each pair of tokens of one sequence occurred; grows with it."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, int], list[int]] = {}
        self._indexed = SHORTEST_MATCH  # ends up to here are in the index

    def draft(self, token_ids: Sequence[int], most: int) -> Draft | None:
        """Return up to `most` tokens that may follow `token_ids`; None without a match.

        `token_ids` may only have grown since the last call.
        """
        size = len(token_ids)
        if most < 1 or size <= SHORTEST_MATCH:
            return None
        self._extend(token_ids)
        places = self._ends.get((token_ids[-2], token_ids[-1]), ())
        matches = [(_match(token_ids, end), end) for end in places]
        if not matches:
            return None
        match, end = max(matches)
        guessed: list[int] = []
        for place in range(end, end + most):
            # Beyond the end a text that repeats itself goes on repeating.
            guessed.append(token_ids[place] if place < size else guessed[place - size])
        return Draft(tuple(guessed), match)

    def _extend(self, token_ids: Sequence[int]) -> None:
        """Index the pairs that end before the newest token: a match needs a next one."""
        stop = min(len(token_ids), self._indexed + _INDEXED_AT_ONCE)
        for end in range(self._indexed, stop):
            places = self._ends.setdefault((token_ids[end - 2], token_ids[end - 1]), [])
            places.append(end)
            if len(places) > _PLACES:
                del places[0]
        self._indexed = max(self._indexed, stop)


def _match(token_ids: Sequence[int], end: int) -> int:
    """Return how many tokens before `end` equal the last ones of `token_ids`."""
    size = len(token_ids)
    most = min(end, LONGEST_MATCH)
    for length in range(SHORTEST_MATCH, most):
        if token_ids[end - 1 - length] != token_ids[size - 1 - length]:
            return length
    return most


class Verified:
    """A draft and the logits [draft, vocabulary] that the network gave after
    each of its tokens; the first `guess` waits for its draw.
    """

    def __init__(self, draft: tuple[int, ...] = (), logits: Any = ()) -> None:
        self._draft = draft
        self._logits = logits
        self._next = 0

    @property
    def guess(self) -> int | None:
        """The token that the next draw is compared with; None: no guess is left."""
        return self._draft[self._next] if self._next < len(self._draft) else None

    def after(self, token_id: int) -> Any:
        """Compare a drawn token with the guess; return the logits after it, or
        None where it was not foreseen, which voids the rest of the draft.
        """
        if token_id != self.guess:
            self._draft, self._logits = (), ()
            return None
        self._next += 1
        return self._logits[self._next - 1]
