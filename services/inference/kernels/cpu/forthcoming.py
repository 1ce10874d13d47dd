"""Which pages are written soon, as far as the steps before tell.

New ones, as each sequence may need one, those of prompts, and what the next prompt needs:
one that finds no memory waits for the system, which clears it first, a fifth of its time.
Pages that nobody had are handed out in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.inference.kernels import Span

PAGE_TOKENS = 16
SLAB_PAGES = 16
"""Pages whose memory is taken together."""
LEAST_RESERVED_PAGES = 32
"""Pages that nobody has yet, for a prompt that comes to an idle engine: 512 tokens."""
MOST_RESERVED_PAGES = 128
_PROMPT_PAGES = 16
"""Pages of a running prompt beyond those that it has written."""


class Forthcoming:
    """Remembers how long prompts are: the next one finds memory for as many tokens as the
    longest had, up to 2,048.
    """

    def __init__(self) -> None:
        self._reserved = LEAST_RESERVED_PAGES

    def after(self, spans: Sequence[Span]) -> Iterator[int]:
        """Return pages, those first that are needed first; none where a step began no page, as
        what is written soon was said before. Of pages in a row one of each slab is there.
        Only one that is alone reserves for a long prompt: pages that running ones write sooner
        would wait for that.
        """
        if not any(map(_begins_page, spans)):
            return
        longest = max(span.prompt_end for span in spans) // PAGE_TOKENS + 1
        self._reserved = max(self._reserved, min(longest, MOST_RESERVED_PAGES))
        newest = max((max(span.page_table, default=0) for span in spans), default=0)
        yield from _in_a_row(newest + 1, len(spans))
        for span in spans:
            full = span.context_length // PAGE_TOKENS
            yield from span.page_table[full : full + _PROMPT_PAGES]
        is_quiet = len(spans) == 1 and spans[0].context_length >= spans[0].prompt_end
        yield from _in_a_row(newest + 1, self._reserved if is_quiet else LEAST_RESERVED_PAGES)


def _in_a_row(first: int, count: int) -> Iterator[int]:
    yield from range(first, first + count, SLAB_PAGES)
    yield first + count - 1


def _begins_page(span: Span) -> bool:
    """Tell whether a step wrote to a page first."""
    return (span.context_length - 1) % PAGE_TOKENS < span.count
