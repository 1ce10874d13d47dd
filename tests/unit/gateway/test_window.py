"""What a reader that lost its connection can still read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.conversations.window import Window
from services.gateway.events import Rejected
from thermesh.errors import FailedPrecondition, InvalidArgument


def event(number):
    """An event that can be told from others."""
    return Rejected(number, "", "")


def filled(events, most=16, taken=0):
    """A window to which `events` were added, of which `taken` were taken."""
    window = Window(most)
    for number in range(1, events + 1):
        window.add(event(number))
        if number <= taken:
            window.take(number)
    return window


def test_an_empty_window_has_its_first_event_to_come():
    """Nothing is there, and reading from the beginning is allowed."""
    window = Window(4)
    window.check(0)
    assert window.take(1) is None
    assert window.oldest == 1


def test_what_is_not_kept_is_named():
    """The error tells from and to which number a turn can be resumed."""
    window = filled(10, most=4, taken=10)
    with pytest.raises(FailedPrecondition, match="from 6 to 10, not from 5") as caught:
        window.check(5)
    window.check(6)
    assert caught.value.field == "resume.last_sequence_number"


def test_the_future_cannot_be_resumed_from():
    """A number that was never sent is the client's mistake."""
    with pytest.raises(InvalidArgument, match="is 3, of 2 so far"):
        filled(2).check(3)


@given(
    st.integers(1, 8),
    st.lists(st.one_of(st.just("add"), st.just("take"), st.integers(0, 40)), max_size=80),
)
def test_a_reader_sees_every_event_once_in_order(most, steps):
    """Whatever is added, taken and resumed: numbers fit events, and memory is bounded."""
    window, added, position = Window(most), 0, 0
    for step in steps:
        if step == "add" and not window.is_full:
            added += 1
            window.add(event(added))
        elif step == "take":
            taken = window.take(position + 1)
            assert (taken is None) == (position == added)
            position += taken is not None
            assert taken is None or taken.update_id == position
        elif isinstance(step, int) and window.oldest <= step + 1 and step <= added:
            window.check(step)
            position = step
        assert added - window.oldest + 1 <= 2 * most
