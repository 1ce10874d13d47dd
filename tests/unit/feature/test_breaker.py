"""The breaker: what a store that is away costs, and how it comes back."""

import logging

import pytest

from services.feature.breaker import COOLDOWN_SECONDS, FAILURES_TO_OPEN, Breaker, GuardedStore
from services.feature.cache import MemoryStore, StoreAway
from services.feature.tally import Tally


class FlakyStore(MemoryStore):
    """A store that is away when told so, and counts who asks."""

    def __init__(self, clock):
        super().__init__(8, clock)
        self.away = False
        self.asked = 0

    async def get(self, key):
        self._ask()
        return await super().get(key)

    async def put(self, key, value, ttl_seconds):
        self._ask()
        await super().put(key, value, ttl_seconds)

    def _ask(self):
        self.asked += 1
        if self.away:
            raise StoreAway


@pytest.fixture
def flaky(clock):
    return FlakyStore(clock)


@pytest.fixture
def tally():
    return Tally()


@pytest.fixture
def guarded(flaky, clock, tally):
    return GuardedStore(flaky, Breaker(clock), tally)


async def test_a_store_that_is_away_answers_none_and_is_left_alone(flaky, guarded, tally):
    """After a few failures in a row nobody is sent there any more, and each failure counted."""
    flaky.away = True
    for _ in range(20):
        assert await guarded.get("key") is None
        await guarded.put("key", b"value", 1)
    assert flaky.asked == FAILURES_TO_OPEN
    assert tally.failures == {("redis", "away"): FAILURES_TO_OPEN}


async def test_one_try_after_each_cooldown_closes_it_again(flaky, guarded, clock):
    """One request in a cooldown tries on behalf of all; its success lets all through."""
    flaky.away = True
    for _ in range(FAILURES_TO_OPEN):
        await guarded.get("key")
    clock.advance(COOLDOWN_SECONDS)
    for _ in range(5):
        await guarded.get("key")
    assert flaky.asked == FAILURES_TO_OPEN + 1
    flaky.away = False
    clock.advance(COOLDOWN_SECONDS)
    await guarded.put("key", b"value", 60)
    assert await guarded.get("key") == b"value"


async def test_a_success_starts_the_count_anew(flaky, guarded):
    """Only failures in a row open it."""
    for _ in range(10):
        flaky.away = True
        for _ in range(FAILURES_TO_OPEN - 1):
            await guarded.get("key")
        flaky.away = False
        await guarded.get("key")
    assert flaky.asked == 10 * FAILURES_TO_OPEN


async def test_each_change_of_state_is_logged_once(flaky, guarded, clock, caplog):
    """An outage of any length writes two lines."""
    with caplog.at_level(logging.WARNING):
        flaky.away = True
        for _ in range(50):
            await guarded.get("key")
            clock.advance(COOLDOWN_SECONDS / 3)
        flaky.away = False
        clock.advance(COOLDOWN_SECONDS)
        await guarded.get("key")
    assert len(caplog.records) == 2
