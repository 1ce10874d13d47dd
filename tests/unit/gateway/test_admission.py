"""Who is let in, and who is told to come back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.admission.bound import Admission
from thermesh.errors import ResourceExhausted, Unavailable
from thermesh.testing import FakeClock


def test_the_bound_holds_and_places_come_back(clock):
    """One more than the bound is refused; a place that is free can be taken."""
    admission = Admission(2, 2, clock)
    with admission.entered("a"):
        with admission.entered("b"), pytest.raises(ResourceExhausted) as refused:
            admission.entered("c").__enter__()
        with admission.entered("c"):
            assert admission.inside == 2

    assert admission.inside == 0
    assert 1 <= refused.value.retry_after <= 30


def test_a_tenant_cannot_take_every_place(clock):
    """The bound per tenant leaves room for others."""
    admission = Admission(10, 1, clock)
    with admission.entered("a"):
        with pytest.raises(ResourceExhausted, match="tenant") as refused:
            admission.entered("a").__enter__()
        with admission.entered("b"):
            assert admission.inside == 2

    assert refused.value.reason == "TENANT_LIMIT"


def test_retry_after_follows_how_long_requests_take(clock):
    """Long requests mean a longer wait, within bounds."""
    admission = Admission(1, 1, clock)
    for _ in range(50):
        with admission.entered("a"):
            clock.advance(12)
    usual = admission.retry_after()
    for _ in range(50):
        with admission.entered("a"):
            clock.advance(1000)

    assert usual == pytest.approx(12, rel=0.05)
    assert admission.retry_after() == 30


def test_a_closed_door_lets_out_but_not_in(clock):
    """During shutdown nobody enters; who is inside may finish."""
    admission = Admission(2, 2, clock)
    with admission.entered("a"):
        admission.close()
        with pytest.raises(Unavailable):
            admission.entered("b").__enter__()
        assert admission.inside == 1

    assert admission.inside == 0


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60))
def test_counts_never_leave_their_bounds(steps):
    """Whatever comes and goes, neither bound is passed and all places return."""
    admission = Admission(4, 2, FakeClock())
    held = []
    for enters, tenant in steps:
        if enters:
            place = contextlib.ExitStack()
            with contextlib.suppress(ResourceExhausted):
                place.enter_context(admission.entered(tenant))
                held.append((tenant, place))
        elif held:
            held.pop()[1].close()
        assert admission.inside == len(held) <= 4
        assert all(sum(t == name for t, _ in held) <= 2 for name in "abc")
    for _, place in held:
        place.close()

    assert admission.inside == 0


def test_who_can_wait_leaves_the_last_places(clock):
    """A flood of one class is refused while another is still let in."""
    admission = Admission(8, 8, clock)
    with contextlib.ExitStack() as inside:
        for _ in range(6):
            inside.enter_context(admission.entered("a", share=0.75))
        with pytest.raises(ResourceExhausted):
            admission.entered("a", share=0.75).__enter__()
        inside.enter_context(admission.entered("a", share=1.0))
        assert admission.inside == 7


def test_a_small_gateway_still_lets_every_class_in(clock):
    """A share of one place is one place."""
    admission = Admission(1, 1, clock)
    with admission.entered("a", share=0.75):
        assert admission.inside == 1
