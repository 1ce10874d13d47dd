"""Following a source by its newest item."""

import asyncio
import contextlib

import pytest

from services.feature.newest import newest
from thermesh.testing import eventually


async def items_of(queue):
    while (item := await queue.get()) is not None:
        yield item


async def test_superseded_items_are_skipped_and_the_last_is_not():
    """While one is worked on three more come: only the last of them is read."""
    queue = asyncio.Queue()
    await queue.put(1)
    async with contextlib.aclosing(newest(items_of(queue))) as following:
        seen = [await anext(following)]
        for item in (2, 3, 4, None):
            await queue.put(item)
        await eventually(queue.empty)
        seen += [item async for item in following]
    assert seen == [1, 4]


@pytest.mark.parametrize("count", [0, 1, 2, 50])
async def test_the_last_item_is_always_read(count):
    """Whatever the pace, an ended source leaves nothing unread."""

    async def source():
        for item in range(count):
            yield item

    seen = [item async for item in newest(source())]
    assert seen[-1:] == list(range(count))[-1:]
    assert seen == sorted(set(seen))


async def test_an_error_of_the_source_is_raised():
    """The reader learns why the source ended."""

    async def source():
        yield 1
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        async for _ in newest(source()):
            pass


async def test_leaving_early_ends_the_source():
    """No task goes on reading for nobody."""
    closed = asyncio.Event()

    async def source():
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with contextlib.aclosing(newest(source())) as following:
        assert await anext(following) == 1
    assert closed.is_set()
