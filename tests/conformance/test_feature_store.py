"""What every store of the feature room must do, in memory and in a real Redis."""

import pytest

from services.feature.cache import MemoryStore
from services.feature.store import RedisStore
from thermesh.clock import SystemClock
from thermesh.testing import eventually, redis_server


@pytest.fixture(scope="module")
def server():
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def store(request):
    if request.param == "memory":
        yield MemoryStore(1000, SystemClock())
        return
    real = RedisStore(request.getfixturevalue("server").url, timeout_seconds=2.0)
    yield real
    await real.close()


async def test_an_unknown_key_has_no_value(store):
    """None, not an error."""
    assert await store.get("unknown") is None


@pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n", b"x" * 10_000])
async def test_bytes_come_back_as_they_were(store, value):
    """Any bytes, also none and line ends."""
    await store.put("key", value, 60)
    assert value == await store.get("key")


async def test_the_last_value_stands(store):
    """A second put replaces the first."""
    await store.put("again", b"first", 60)
    await store.put("again", b"second", 60)
    assert await store.get("again") == b"second"


async def test_keys_are_apart(store):
    """One key's value is not another's."""
    await store.put("one", b"1", 60)
    await store.put("two", b"2", 60)
    assert (await store.get("one"), await store.get("two")) == (b"1", b"2")


async def test_a_value_leaves_after_its_time_to_live(store):
    """One second is the shortest life Redis gives."""
    await store.put("brief", b"value", 1)
    assert await store.get("brief") == b"value"

    async def is_gone():
        return await store.get("brief") is None

    await eventually(is_gone, 30, "expiry")
