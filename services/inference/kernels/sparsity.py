"""Which pages of a long context a query reads, and why; `page_choice` is the oracle.

A query reads the first page, on which networks put the attention they have no
use for (Xiao et al., 2023, https://arxiv.org/abs/2309.17453), the newest
tokens, and the pages between that would have most of its attention if keys were
the means of their half page. The query heads that share keys choose together,
by their attention added up, so that what they read is read once.

We began with bounds from the greatest and least key of each channel (Quest:
Tang et al., 2024, https://arxiv.org/abs/2406.10774), which take as much memory.
On SmolLM2-135M they find less: their scores exceed the true ones by so much, and
so unevenly, that at equal budgets the mean divergence was two to three
times as large.

What a query reads depends on its position and its own context alone, never on
how a prompt was cut or on what else is in the batch. Means and queries are
codes of eight bits, so that every implementation chooses alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.errors import InvalidArgument

FINAL_TOKENS = 64
"""Newest tokens of a context that a step may write again, as drafts that were
refused are; fewer than that many are ever drafted. Their pages have no means."""

HeadWindows = tuple[tuple[int, ...], ...]
"""[layers][kv_heads]: how many newest tokens a head reads; 0: it has no window."""

PAGE_TOKENS = 16
_SEGMENT = 128
_MOST_TOKENS = 1 << 30


@dataclass(frozen=True)
class Sparsity:
    """How the queries of one sequence choose; raises InvalidArgument out of range."""

    first_position: int = 0
    """Queries before it read everything."""
    dense_below: int = 3072
    """Queries at lower positions read everything: there is nothing to gain."""
    budget_tokens: int = 2048
    """Tokens that a query reads at least, window and first page included; from 1."""
    share: float = 0.0
    """Share of its context that a query reads at least, in [0, 1]."""
    window_tokens: int = 128
    """Newest tokens that every query reads, from `FINAL_TOKENS`."""
    dense_layers: int = 2
    """First layers, in which no query chooses."""
    head_windows: HeadWindows | None = None
    """What heads read that have a window of their own, in any layer, instead of choosing:
    the first page and, up to a multiple of 128, that many newest tokens."""

    def __post_init__(self) -> None:
        lowest = {
            "first_position": 0,
            "dense_below": 0,
            "budget_tokens": 1,
            "window_tokens": FINAL_TOKENS,
            "dense_layers": 0,
        }
        for field, low in lowest.items():
            if not low <= getattr(self, field) <= _MOST_TOKENS:
                raise InvalidArgument(f"{field} must be in [{low}, 2^30]", field=field)
        windows = {window for layer in self.head_windows or () for window in layer} - {0}
        if windows and not FINAL_TOKENS <= min(windows) <= max(windows) <= _MOST_TOKENS:
            message = f"head_windows must be 0 or in [{FINAL_TOKENS}, 2^30]"
            raise InvalidArgument(message, field="head_windows")
        if not 0 <= self.share <= 1:
            raise InvalidArgument("share must be in [0, 1]", field="share")

    @property
    def sparse_from(self) -> int:
        """The first position whose query chooses."""
        return max(self.first_position, self.dense_below)

    @property
    def share_in_65536ths(self) -> int:
        """`share` as implementations count with it."""
        return round(self.share * 65536)


LIGHT = Sparsity()
"""What a sequence on the light path reads where nobody has measured the heads."""


def routed(head_windows: HeadWindows) -> Sparsity:
    """Return what a sequence on the light path reads where somebody has.

    Heads without a window, which retrieve, read everything.
    """
    return Sparsity(budget_tokens=_MOST_TOKENS, dense_below=1024, head_windows=head_windows)


@dataclass(frozen=True)
class Reading:
    """Page 0, `chosen` of the pages [1, candidates), and all pages from there on."""

    candidates: int
    chosen: int


def reading(sparsity: Sparsity, position: int) -> Reading | None:
    """Return what the query at `position` reads; None: everything."""
    seen = position + 1
    candidates = max(seen - sparsity.window_tokens, 0) // PAGE_TOKENS
    budget = max(sparsity.budget_tokens, seen * sparsity.share_in_65536ths >> 16)
    always = 1 + pages_of(seen) - candidates
    chosen = max(pages_of(budget) - always, 1)
    if position < sparsity.sparse_from or candidates < 2 or chosen >= candidates - 1:
        return None
    return Reading(candidates, chosen)


def window_start(window: int, position: int) -> int:
    """Return the first token of a head's window, 0 where it reaches the first ones.

    Windows begin where the sums of attention are cut, so that queries beside each
    other read the same, and in the same order.
    """
    return max(position + 1 - window, 0) // _SEGMENT * _SEGMENT


def pages_of(tokens: int) -> int:
    """Return the pages that so many tokens take."""
    return -(-tokens // PAGE_TOKENS)
