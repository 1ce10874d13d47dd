"""Follows a fast source at a slow reader's pace by dropping what was superseded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

Item = TypeVar("Item")


async def newest(source: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """Yield the newest item of `source` each time one is asked for.

    Items that a newer one replaced before that are skipped; the last one never
    is. An error of the source is raised at once. At most one item is held.
    """
    slot: list[Item] = []
    changed = asyncio.Event()

    async def fill() -> None:
        try:
            async for item in source:
                slot[:] = [item]
                changed.set()
        finally:
            changed.set()

    filler = asyncio.create_task(fill())
    try:
        while True:
            await changed.wait()
            changed.clear()
            if filler.done():
                changed.set()
                filler.result()  # raises what the source raised
            if slot:
                yield slot.pop()
            elif filler.done():
                return
    finally:
        filler.cancel()
        await asyncio.gather(filler, return_exceptions=True)
