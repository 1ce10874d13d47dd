"""What a tenant may hold while others want the same places."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.admission.contest import BURST, Contest


def contest(places=8):
    """An empty contest."""
    found = Contest()
    found.places = places
    return found


def holding(one, tenant, count, now=0.0):
    """Let a tenant take places without asking for its bound."""
    for _ in range(count):
        one.want(tenant, now)
        one.enter(tenant, now)


def test_alone_nobody_is_bounded():
    """Also long after others were there."""
    one = contest()
    holding(one, "a", 6)
    assert one.bound("a", 0.0) == math.inf

    one.want("b", 0.0)
    assert one.bound("a", 0.0) < 8
    assert one.bound("a", 3600.0) == math.inf


def test_a_flood_gets_what_the_modest_leave():
    """One place wanted by another costs two, the one and one for chance; one more is for bursts."""
    one = contest()
    holding(one, "modest", 1)
    one.want("flood", 0.0)
    assert one.bound("flood", 0.0) == 5


def test_two_who_want_all_get_half_each():
    """However much they ask for."""
    one = contest()
    holding(one, "a", 8)
    holding(one, "b", 8)
    assert (one.bound("a", 0.0), one.bound("b", 0.0)) == (4, 4)


def test_what_was_left_can_be_spent_on_a_burst():
    """Of one's own part, while something was held; not by who always took all."""
    one = contest(16)
    holding(one, "modest", 1)
    holding(one, "flood", 16)
    holding(one, "modest", 1, now=10.0)
    holding(one, "flood", 1, now=10.0)

    assert one.bound("modest", 10.0) == 7 + 3
    assert one.bound("flood", 10.0) == 14 - 4


def test_who_held_nothing_saved_nothing():
    """Else a tenant could save for its flood by staying away."""
    one = contest()
    one.want("late", 0.0)
    holding(one, "here", 8)
    one.want("late", 5.0)
    assert one.bound("late", 5.0) == 4


def test_tenants_that_want_nothing_are_forgotten():
    """However many there were."""
    one = contest()
    for number in range(10_000):
        one.want(f"t{number}", 0.0)
    assert len(one._tenants) <= 4096

    for _ in range(4096):
        one.want("last", 3600.0)
    assert list(one._tenants) == ["last"]


def test_a_tenant_that_stays_keeps_nobody_remembered():
    """Else names that come once would pile up behind one long answer."""
    one = contest()
    holding(one, "long", 2)
    for number in range(10_000):
        one.want(f"t{number}", float(number))
    assert len(one._tenants) < 200
    assert one.held("long") == 2


def test_who_has_less_than_an_equal_part_is_always_admitted():
    """Where there are more tenants than places, each may have one."""
    one = contest()
    for number in range(20):
        one.want(f"t{number}", 0.0)
    assert one.admits("t0", 0.0)
    one.enter("t0", 0.0)
    assert not one.admits("t0", 0.0)


def test_who_always_takes_its_part_saves_nothing():
    """Not even the places that are kept for the bursts of others."""
    one = contest(32)
    holding(one, "modest", 1)
    holding(one, "flood", 14)
    one.want("modest", 10.0)
    one.want("flood", 10.0)
    assert one._tenants["flood"].saved == 0.0
    assert one._tenants["modest"].saved > 0.0


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(0, 2)),
        max_size=80,
    ),
    st.integers(1, 12),
)
def test_nobody_is_bounded_below_its_part_nor_far_above(steps, places):
    """Whatever comes and goes: at least an equal part, at most all but for a burst."""
    one, now = contest(places), 0.0
    for tenant, enters, passes in steps:
        now += passes
        one.want(tenant, now)
        bound = one.bound(tenant, now)
        assert bound >= places // 4
        if bound != math.inf:
            assert bound <= max(places, math.ceil(places / 2) * (1 + BURST))
        if enters and one.held(tenant) < bound:
            one.enter(tenant, now)
        elif one.held(tenant):
            one.leave(tenant, now)
    assert one.total == sum(map(one.held, "abcd"))


@pytest.mark.slow
@given(st.lists(st.floats(0.01, 0.2), min_size=1, max_size=40), st.integers(1, 4))
def test_a_flood_never_takes_what_another_uses(gaps, used):
    """Whoever holds at most half of the places always finds one free."""
    one, now = contest(8), 0.0
    holding(one, "steady", used)
    for gap in gaps:
        now += gap
        one.leave("steady", now)
        for _ in range(10):
            one.want("flood", now)
            if one.held("flood") < one.bound("flood", now):
                one.enter("flood", now)
        one.want("steady", now)
        assert one.held("steady") < one.bound("steady", now)
        assert one.total < one.places
        one.enter("steady", now)


def test_the_mean_time_tells_how_many_may_burst():
    """A place for twice as long costs twice as much of what was saved."""
    one = contest(32)
    one.mean_seconds = 2.0
    holding(one, "modest", 3)
    holding(one, "flood", 32)
    one.want("modest", 0.5)
    assert one._tenants["modest"].saved == pytest.approx((14 - 3) * 0.5)
    assert one.bound("modest", 0.5) == 14 + 2
