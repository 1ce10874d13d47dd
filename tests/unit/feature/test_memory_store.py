"""The bound of the store in memory."""

from services.feature.cache import MemoryStore


async def test_the_least_recently_used_leaves_first(clock):
    """Reading a value makes it recent; the capacity is never exceeded."""
    store = MemoryStore(2, clock)
    await store.put("a", b"1", 60)
    await store.put("b", b"2", 60)
    await store.get("a")
    await store.put("c", b"3", 60)
    assert len(store) == 2
    assert [await store.get(key) for key in "abc"] == [b"1", None, b"3"]


async def test_an_expired_value_gives_its_place_back(clock):
    """Looking at it removes it."""
    store = MemoryStore(2, clock)
    await store.put("a", b"1", 1)
    clock.advance(1)
    assert await store.get("a") is None
    assert len(store) == 0
