"""The prefix cache: sequences that begin alike own the pages of the beginning together.

Full pages are found by the key that `page_keys` gives their tokens.

At least the last token of a sequence is always computed, since its logits are
wanted. Only full pages are shared, and so no page that somebody else reads is
ever written. Of a page that another sequence still fills, the tokens in common
are copied: where several answers to one prompt are wanted, all but the first
compute one token of it, however its end lies in its page.
Tokens whose queries chose what they read (`kernels.sparsity`) are neither
kept, found nor copied: others would compute something else of them. The same
goes for generated tokens where the network computes prompts in an arithmetic
of their own (`Limits.reuses_output`): what was answered is then computed anew
when it is part of the next prompt, and a request gives the same answer
whatever was asked before.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Items

from services.inference.scheduling.pages import PageAllocator
from services.inference.sequences.sequence import Sequence


class PrefixCache:
    """What is kept of sequences, and who may use it.

    `queried_count` and `hit_count` are prompt tokens of admitted sequences, all
    of them and those that were found. Disabled, it keeps and finds nothing;
    unless it `reuses_output`, nothing of generated tokens.
    """

    def __init__(
        self,
        pages: PageAllocator,
        page_size: int,
        *,
        is_enabled: bool,
        reuses_output: bool = True,
    ) -> None:
        self.queried_count = 0
        self.hit_count = 0
        self._pages = pages
        self._page_size = page_size
        self._is_enabled = is_enabled
        self._reuses_output = reuses_output

    def find(self, sequence: Sequence) -> list[int]:
        """Return the kept pages that `sequence` begins with."""
        return self._pages.find(self._wanted_keys(sequence))

    def attach(self, sequence: Sequence) -> None:
        """Give a sequence that has no pages those it begins with."""
        sequence.pages = self.find(sequence)
        self._pages.share(sequence.pages)
        sequence.computed_count = len(sequence.pages) * self._page_size

    def fork(self, sequence: Sequence, others: Iterable[Sequence]) -> list[tuple[int, int]]:
        """Let `sequence`, just attached, go on with what one of `others` has in the
        page after; return the (source, target) to be copied, at most one.
        """
        start = sequence.computed_count
        most = self._sharable(sequence, len(sequence.token_ids) - 1)
        index = start // self._page_size
        count, source = 0, -1
        for other in others if self._is_enabled else ():
            known = self._sharable(other, other.computed_count)
            end = min(start + self._page_size, known, most)
            if end - start > count and _share_beginning(sequence, other, index):
                common = _common(sequence.token_ids[start:end], other.token_ids[start:end])
                if common > count:
                    count, source = common, other.pages[index]
        sequence.computed_count += count
        return [(source, sequence.pages[index])] if count else []

    def count(self, sequence: Sequence) -> None:
        """Count what was found of a sequence, on its first admission."""
        if sequence.cached_prompt_tokens is None:
            sequence.cached_prompt_tokens = sequence.computed_count
            self.queried_count += len(sequence.token_ids)
            self.hit_count += sequence.computed_count

    def is_underway(self, sequence: Sequence, others: Iterable[Sequence]) -> bool:
        """Tell whether one of `others` prefills the next page that `sequence`
        lacks: to wait for it is faster than to compute it twice.
        """
        keys = self._wanted_keys(sequence)
        index = len(self._pages.find(keys))
        return index < len(keys) and any(
            self._prefills(other, index, keys[index]) for other in others
        )

    def advance(self, sequence: Sequence, count: int) -> None:
        """Note that `count` more tokens were computed; keep pages that got full."""
        before = sequence.computed_count // self._page_size
        sequence.advance(count)
        full = self._sharable(sequence, sequence.computed_count) // self._page_size
        if self._is_enabled and full > before:
            keys = sequence.page_keys.first(full, sequence.token_ids)
            for index in range(before, full):
                self._pages.keep(sequence.pages[index], keys[index])

    def _wanted_keys(self, sequence: Sequence) -> list[bytes]:
        if not self._is_enabled:
            return []
        count = self._sharable(sequence, len(sequence.token_ids) - 1) // self._page_size
        return sequence.page_keys.first(count, sequence.token_ids)

    def _sharable(self, sequence: Sequence, count: int) -> int:
        """Return how many of the first `count` tokens a prompt that begins with them
        would compute alike.
        """
        most = count if self._reuses_output else min(count, sequence.read_count)
        return sequence.attending.sharable(most)

    def _prefills(self, other: Sequence, index: int, key: bytes) -> bool:
        end = (index + 1) * self._page_size
        known = self._sharable(other, len(other.token_ids))
        if not is_prefilling(other) or not other.computed_count < end <= known:
            return False
        return other.page_keys.first(index + 1, other.token_ids)[index] == key


def is_prefilling(sequence: Sequence) -> bool:
    """Tell whether tokens remain to be computed beside the one drawn last."""
    return sequence.remaining_count > (sequence.output_count > 0)


def _share_beginning(sequence: Sequence, other: Sequence, pages: int) -> bool:
    """Tell whether both own the same `pages` first pages: the last one's key stands
    for all before it, and for the tenant.
    """
    if pages:
        return sequence.pages[pages - 1] == other.pages[pages - 1]
    return sequence.request.context.tenant == other.request.context.tenant


def _common(first: Items[int], second: Items[int]) -> int:
    pairs = enumerate(zip(first, second, strict=True))
    return next((index for index, (one, other) in pairs if one != other), len(first))
