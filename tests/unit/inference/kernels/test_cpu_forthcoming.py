"""Which pages the cache takes memory for before they are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.kernels import Span
from services.inference.kernels.cpu.forthcoming import (
    LEAST_RESERVED_PAGES,
    MOST_RESERVED_PAGES,
    PAGE_TOKENS,
    SLAB_PAGES,
    Forthcoming,
)


def span(count: int, context: int, prompt: int, first_page: int = 0) -> Span:
    """A span whose pages lie in a row, all of its prompt's among them."""
    pages = -(-max(context, prompt) // PAGE_TOKENS)
    table = tuple(range(first_page, first_page + pages))
    return Span(0, count, context, table, prompt_end=max(prompt - 1, 0))


def test_a_step_within_a_page_expects_nothing() -> None:
    """What comes next was said as the page began."""
    assert list(Forthcoming().after([span(1, 18, 17)])) == []
    assert list(Forthcoming().after([span(1, 17, 17)])) != []


def test_what_is_needed_first_comes_first() -> None:
    """A new page for each sequence, then those that a prompt has already, then what a new prompt
    of 512 tokens needs: of pages in a row one of each slab, and the last.
    """
    spans = (Span(0, 1, 1, (7,)), Span(1, 20, 20, (2, 9, 4, 5)))
    assert list(Forthcoming().after(spans)) == [10, 11, 7, 9, 4, 5, 10, 26, 41]


def test_little_is_reserved_while_others_run() -> None:
    """Pages that the next steps write would have to wait for it."""
    forthcoming = Forthcoming()
    running = list(forthcoming.after([span(512, 512, 2048)]))
    assert running == [128, 128, *range(32, 48), 128, 144, 159]
    ended = list(forthcoming.after([span(512, 2048, 2048)]))
    assert ended == [128, 128, *range(128, 256, 16), 255]
    together = list(forthcoming.after([span(1, 2049, 2048), span(1, 2049, 2048, 129)]))
    assert together[-3:] == [258, 274, 289]


@given(
    lengths=st.lists(st.integers(1, 10_000), min_size=1, max_size=6),
    first_page=st.integers(0, 100),
)
def test_as_much_is_reserved_as_the_longest_prompt_took(
    lengths: list[int], first_page: int
) -> None:
    """In bounds; and no slab in between is left out."""
    forthcoming, pages = Forthcoming(), []
    for length in lengths:
        pages = list(forthcoming.after([span(length, length, length, first_page)]))
    newest = first_page + -(-lengths[-1] // PAGE_TOKENS) - 1
    longest = (max(lengths) - 1) // PAGE_TOKENS + 1
    reserved = min(max(longest, LEAST_RESERVED_PAGES), MOST_RESERVED_PAGES)
    whole = {page // SLAB_PAGES for page in range(newest + 1, newest + 1 + reserved)}
    assert whole == {page // SLAB_PAGES for page in pages if page > newest}
