"""The token budget of one step: who computes how many tokens of it."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.sequences.drafting import Draft
from services.inference.sequences.sequence import Sequence

_LONG_CONTEXT = 2048
"""Tokens behind which the last token of a prompt, where others are in the step, has one of
its own: it is computed as generated ones are, apart from those before it, so that its step
would read the context twice and was the longest of all."""


@dataclass(frozen=True)
class Work:
    """`count` tokens of `sequence`, from its `computed_count` on, and then those
    of a `draft`, or of one that the light network makes of up to `foreseen` tokens.
    """

    sequence: Sequence
    count: int
    draft: Draft | None = None
    foreseen: int = 0

    @property
    def guesses(self) -> tuple[int, ...]:
        """The tokens of the draft."""
        return () if self.draft is None else self.draft.token_ids


class StepBudget:
    """The token budget of one step and who has a share of it."""

    def __init__(self, tokens: int, prefill_chunk: int) -> None:
        self._left = tokens
        self._prefill_chunk = prefill_chunk
        self._counts: dict[Sequence, int] = {}
        self._drafts: dict[Sequence, Draft] = {}
        self._foreseen: dict[Sequence, int] = {}

    @property
    def left(self) -> int:
        """Tokens that are not taken."""
        return self._left

    @property
    def sequences(self) -> list[Sequence]:
        """Those that have a share, in the order in which they took it."""
        return list(self._counts)

    def leave_for_prompts(self, count: int) -> None:
        """Bound what is left."""
        self._left = min(self._left, count)

    def share(self, sequence: Sequence) -> int:
        """Return how many known tokens of `sequence` may be computed."""
        most = min(sequence.remaining_count, self._prefill_chunk, self._left)
        if most == sequence.remaining_count > 1 and self._counts and _is_long(sequence):
            most -= 1
        return sequence.attending.alike(sequence.computed_count, most)

    def take(self, sequence: Sequence, count: int) -> None:
        """Give `sequence` a share of `count` tokens."""
        self._counts[sequence] = count
        self._left -= count

    def append(self, sequence: Sequence, draft: Draft) -> None:
        """Add guesses to the share of `sequence`."""
        self._drafts[sequence] = draft

    def foresee(self, sequence: Sequence, count: int) -> None:
        """Let the light network add up to `count` guesses to the share of `sequence`."""
        self._foreseen[sequence] = count

    def drop(self, sequence: Sequence) -> None:
        """Take back the share of `sequence`, if it has one."""
        self._left += self._counts.pop(sequence, 0)

    def work(self) -> list[Work]:
        """Return the shares."""
        return [
            Work(sequence, count, self._drafts.get(sequence), self._foreseen.get(sequence, 0))
            for sequence, count in self._counts.items()
        ]


def _is_long(sequence: Sequence) -> bool:
    return sequence.computed_count >= _LONG_CONTEXT
