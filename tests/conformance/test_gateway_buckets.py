"""Buckets in this process and in a real Redis do the same."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.admission.buckets import LocalBuckets
from services.gateway.store import RedisStore
from thermesh.keys import UNLIMITED, Allowance
from thermesh.testing import FakeClock, redis_server

_tenants = itertools.count()


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    with redis_server() as running:
        yield running


@pytest.fixture
def clock():
    """The time that fills the buckets."""
    return FakeClock()


@pytest.fixture(params=["local", "redis"])
async def buckets(request, clock):
    """Buckets of either kind."""
    if request.param == "local":
        yield LocalBuckets(clock)
        return
    url = request.getfixturevalue("server").url
    store = RedisStore(url, timeout_seconds=5, take_seconds=5, clock=clock)
    yield store
    await store.close()


@pytest.fixture
def tenant():
    """A tenant whose buckets are full."""
    return f"tenant-{next(_tenants)}"


async def test_a_minutes_worth_is_there_at_once_and_then_no_more(buckets, tenant):
    """The wait that is told is that for one more request."""
    allowance = Allowance(requests_per_minute=3)
    taken = [await buckets.take(tenant, allowance, 1, 10) for _ in range(4)]
    assert [quota.wait_seconds for quota in taken] == [0, 0, 0, 20]
    assert [quota.requests.remaining for quota in taken] == [2, 1, 0, 0]
    assert taken[-1].requests.reset_seconds == 60
    assert taken[-1].tokens.limit == 0


async def test_after_the_told_wait_it_can_be_taken(buckets, tenant, clock):
    """Neither sooner nor later."""
    allowance = Allowance(tokens_per_minute=600)
    await buckets.take(tenant, allowance, 1, 600)
    wait = (await buckets.take(tenant, allowance, 1, 50)).wait_seconds
    clock.advance(wait - 0.01)
    assert (await buckets.take(tenant, allowance, 1, 50)).wait_seconds > 0
    clock.advance(0.01)
    assert (await buckets.take(tenant, allowance, 1, 50)).wait_seconds == 0


async def test_what_is_refused_takes_nothing(buckets, tenant):
    """A request without tokens left does not use up requests either."""
    allowance = Allowance(requests_per_minute=10, tokens_per_minute=100)
    await buckets.take(tenant, allowance, 1, 100)
    refused = await buckets.take(tenant, allowance, 1, 1)
    assert refused.tokens.wait_us > 0
    assert refused.requests.wait_us == 0
    assert refused.requests.remaining == 9


async def test_unused_tokens_come_back_and_more_is_owed(buckets, tenant):
    """Settling gives back, or leaves a debt that time pays."""
    allowance = Allowance(tokens_per_minute=100)
    await buckets.take(tenant, allowance, 1, 100)
    assert (await buckets.take(tenant, allowance, 0, -60)).tokens.remaining == 60
    owed = await buckets.take(tenant, allowance, 0, 90)
    assert owed.tokens.remaining == 0
    assert owed.wait_seconds == 0
    assert (await buckets.take(tenant, allowance, 1, 10)).wait_seconds == pytest.approx(24)


async def test_a_request_larger_than_the_bucket_needs_a_full_one(buckets, tenant, clock):
    """It is not refused for ever."""
    allowance = Allowance(tokens_per_minute=100)
    assert (await buckets.take(tenant, allowance, 1, 500)).wait_seconds == 0
    clock.advance(300)
    assert (await buckets.take(tenant, allowance, 1, 500)).wait_seconds == 0


async def test_tenants_are_apart(buckets, tenant):
    """One that is out of tokens leaves the other's alone."""
    allowance = Allowance(requests_per_minute=1)
    for _ in range(3):
        await buckets.take(tenant, allowance, 1, 1)
    assert (await buckets.take(tenant + "-other", allowance, 1, 1)).wait_seconds == 0


async def test_without_bounds_nothing_is_counted(buckets, tenant):
    """Every request goes on."""
    quotas = [await buckets.take(tenant, UNLIMITED, 1, 10**6) for _ in range(3)]
    assert all(quota.wait_seconds == 0 for quota in quotas)


async def test_many_at_once_get_exactly_what_is_there(buckets, tenant):
    """Nothing is given twice."""
    allowance = Allowance(requests_per_minute=20)
    quotas = await asyncio.gather(*(buckets.take(tenant, allowance, 1, 1) for _ in range(60)))
    assert sum(quota.wait_seconds == 0 for quota in quotas) == 20


STEPS = st.lists(
    st.tuples(st.floats(0, 90), st.integers(0, 1), st.integers(-50, 200)), min_size=1, max_size=12
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(0, 20), st.integers(0, 300))
def test_both_kinds_agree_on_any_history(server, steps, requests, tokens):
    """The script and the Python say the same of every step."""
    allowance, name = Allowance(requests, tokens), f"history-{next(_tenants)}"
    asyncio.run(_compare(server.url, steps, allowance, name))


async def _compare(url, steps, allowance, name):
    clock = FakeClock()
    local = LocalBuckets(clock)
    shared = RedisStore(url, timeout_seconds=5, take_seconds=5, clock=clock)
    try:
        for pause, count, wanted in steps:
            clock.advance(pause)
            # Only settling gives back.
            wanted = max(0, wanted) if count else wanted  # noqa: PLW2901
            here = await local.take(name, allowance, count, wanted)
            there = await shared.take(name, allowance, count, wanted)
            for one, other in ((here.requests, there.requests), (here.tokens, there.tokens)):
                assert one.limit == other.limit
                assert one.level == pytest.approx(other.level, abs=1e-4)
                assert one.wait_us == pytest.approx(other.wait_us, abs=200)
    finally:
        await shared.close()
