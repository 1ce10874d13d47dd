"""When a failing neighbour is left alone."""

from __future__ import annotations

from services.gateway.breaker import Breaker


def open_breaker(clock):
    """A breaker that has just opened."""
    breaker = Breaker(clock, threshold=3, pause_seconds=1, max_pause_seconds=4)
    changes = [breaker.fail() for _ in range(3)]
    assert changes == [False, False, True]
    return breaker


def test_some_failures_are_borne(clock):
    """Below the threshold every call is made, and a success forgets them."""
    breaker = Breaker(clock, threshold=3)
    breaker.fail()
    breaker.fail()
    breaker.succeed()
    breaker.fail()

    assert breaker.allows()
    assert not breaker.is_open


def test_an_open_breaker_lets_one_call_through_per_pause(clock):
    """After the pause one try is made; the rest are skipped until it is answered."""
    breaker = open_breaker(clock)
    at_once = breaker.allows()
    clock.advance(1)
    tries = [breaker.allows() for _ in range(3)]

    assert at_once is False
    assert tries == [True, False, False]


def test_pauses_grow_to_a_bound(clock):
    """A neighbour that stays away is asked less and less often, but is asked."""
    breaker = open_breaker(clock)
    pauses = []
    for _ in range(4):
        waited = 0.0
        while not breaker.allows():
            clock.advance(0.25)
            waited += 0.25
        pauses.append(waited)
        breaker.fail()

    assert pauses == [1, 2, 4, 4]


def test_a_success_closes_it_and_is_told_once(clock):
    """The change of state is told to the caller, so that it is logged once."""
    breaker = open_breaker(clock)

    assert [breaker.succeed(), breaker.succeed()] == [True, False]
    assert breaker.allows()
