"""Memory of the cache that is taken before a step needs it."""

from __future__ import annotations

import queue

from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.kernels.cpu.ahead import Ahead

DEADLINE_SECONDS = 30


@settings(deadline=None, max_examples=30)
@given(asked=st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=5))
def test_each_piece_is_taken_once_and_in_order(asked: list[list[int]]) -> None:
    """Whoever asks for it again, and however often."""
    taken: queue.SimpleQueue[int] = queue.SimpleQueue()
    ahead = Ahead(taken.put)
    for pieces in asked:
        ahead.ask(pieces)
    expected = list(dict.fromkeys(piece for pieces in asked for piece in pieces))
    assert [taken.get(timeout=DEADLINE_SECONDS) for _ in expected] == expected
    assert taken.empty()
