"""How a client waits before it tries again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thermesh.client import Patience
from thermesh.errors import InvalidArgument, ResourceExhausted, Unavailable


@given(st.integers(1, 10_000))
def test_waits_grow_to_a_bound(failures):
    """Each is between half of and the whole of what doubling gives, whatever the count."""
    patience = Patience(first_seconds=0.1, most_seconds=2.0)
    longest = min(2.0, 0.1 * 2 ** min(failures - 1, 60))
    assert longest / 2 <= patience.backoff(failures) <= longest


def test_the_server_may_ask_for_longer():
    """Its time is kept where it is longer than the backoff."""
    assert Patience().wait(Unavailable("away", retry_after=7.0), 1) == 7.0
    assert Patience().wait(Unavailable("away", retry_after=0.0), 1) <= 0.1


def test_only_what_passes_is_tried_again():
    """Being away or full passes; a mistake, or what can never fit, does not."""
    patience = Patience(retries=1)
    assert patience.allows(Unavailable("away"), 1)
    assert patience.allows(ResourceExhausted("full", retry_after=1.0), 1)
    assert not patience.allows(Unavailable("away"), 2)
    assert not patience.allows(ResourceExhausted("too large"), 1)
    assert not patience.allows(InvalidArgument("wrong"), 1)
