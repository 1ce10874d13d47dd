"""Which class and which tenant gets the next place in the engine."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.admission.bookings import LONGEST_SECONDS, Bookings
from services.gateway.admission.places import Places
from services.gateway.asking import Priority
from thermesh.errors import ResourceExhausted
from thermesh.testing import FakeClock

BATCH, STANDARD, INTERACTIVE, VOICE = Priority


def of(running, waiting, replicas=1):
    """Places of an engine of that size."""
    places = Places(FakeClock(), replicas)
    places.fit(running, waiting)
    return places


def fill(places, stack, priority, tenant="a"):
    """Take places until one is refused; return how many were taken."""
    taken = 0
    with contextlib.suppress(ResourceExhausted):
        while taken < 1000:
            stack.enter_context(places.taken(tenant, priority))
            taken += 1
    return taken


def test_an_engine_that_does_not_say_bounds_nobody():
    """A bridge may know no number; its own refusals count then."""
    with contextlib.ExitStack() as stack:
        assert fill(Places(FakeClock()), stack, BATCH) == 1000


def test_each_class_fills_as_much_as_it_can_wait():
    """Of 8 that run and 16 that wait: three quarters, nine tenths, and short lines."""
    found = {}
    for priority in Priority:
        with contextlib.ExitStack() as stack:
            found[priority] = fill(of(8, 16), stack, priority)
    assert found == {BATCH: 18, STANDARD: 22, INTERACTIVE: 10, VOICE: 9}


def test_a_higher_class_does_not_see_a_lower_one():
    """As many people come in beside a flood of batch requests as without."""
    places = of(8, 24)
    with contextlib.ExitStack() as stack:
        fill(places, stack, BATCH)
        assert fill(places, stack, INTERACTIVE) == 8
        assert places.inside == 32


def test_many_gateways_share_one_engine():
    """Each has its part, rounded up."""
    with contextlib.ExitStack() as stack:
        assert fill(of(8, 16, replicas=4), stack, BATCH) == 5


def test_refusals_are_told_one_after_the_other():
    """Places become free one by one, so nobody is sent to the same moment as another."""
    clock = FakeClock()
    places = Places(clock)
    places.fit(4, 0)
    with contextlib.ExitStack() as stack:
        fill(places, stack, BATCH)
        clock.advance(8.0)
    waits = []
    with contextlib.ExitStack() as stack:
        fill(places, stack, BATCH)
        for _ in range(3):
            with pytest.raises(ResourceExhausted) as refused:
                places.taken("a", BATCH).__enter__()
            waits.append(refused.value.retry_after)
        assert refused.value.reason == "NO_PLACE"
    gaps = {round(after - before, 6) for before, after in itertools.pairwise(waits)}
    assert len(gaps) == 1
    assert 0.1 < gaps.pop() < 8.0


def test_a_flooding_tenant_is_told_of_its_share():
    """By a reason of its own, in its own class only."""
    places = of(8, 16)
    with contextlib.ExitStack() as stack:
        stack.enter_context(places.taken("quiet", STANDARD))
        assert fill(places, stack, STANDARD, "flood") == 5
        with pytest.raises(ResourceExhausted, match="other tenants") as refused:
            places.taken("flood", STANDARD).__enter__()
        stack.enter_context(places.taken("quiet", STANDARD))
        stack.enter_context(places.taken("flood", INTERACTIVE))
    assert (refused.value.reason, refused.value.field) == ("FAIR_SHARE", "tenant")


def test_bookings_end_and_are_forgotten():
    """A booked moment that passed costs nobody anything; no wait is longer than half a minute."""
    bookings = Bookings()
    assert [bookings.book("q", 2.0, now) for now in (0.0, 0.0, 1.0)] == [2.0, 4.0, 5.0]
    assert bookings.book("q", 2.0, 100.0) == 2.0
    assert bookings.book("other", 100.0, 0.0) == LONGEST_SECONDS
    for number in range(5000):
        bookings.book(str(number), 1.0, 0.0)
    assert len(bookings._booked_until) <= 4096


STEPS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(list(Priority)), st.sampled_from("ab")), max_size=80
)


@pytest.mark.slow
@given(STEPS, st.integers(1, 6), st.integers(0, 6))
def test_places_never_leave_their_bounds(steps, running, waiting):
    """Whatever comes and goes, the engine is never asked to hold more, and all places return."""
    places, held = of(running, waiting), []
    for enters, priority, tenant in steps:
        if enters:
            with contextlib.suppress(ResourceExhausted):
                stack = contextlib.ExitStack()
                stack.enter_context(places.taken(tenant, priority))
                held.append(stack)
        elif held:
            held.pop(len(held) // 2).close()
        assert places.inside == len(held) <= running + waiting
    for stack in held:
        stack.close()
    assert places.inside == 0


@pytest.mark.slow
@given(STEPS, st.integers(1, 6))
def test_a_lower_class_never_costs_a_higher_one_its_place(steps, running):
    """With room to wait, voice is served as if nobody else was there."""
    places, stack = of(running, 1000), contextlib.ExitStack()
    for _, priority, tenant in steps:
        if priority is not VOICE:
            with contextlib.suppress(ResourceExhausted):
                stack.enter_context(places.taken(tenant, priority))
    for _ in range(running):
        stack.enter_context(places.taken("a", VOICE))
    stack.close()
