"""One who waits, and a bell."""

from __future__ import annotations

import asyncio

import pytest

from thermesh.bell import Bell

pytestmark = pytest.mark.slow


async def test_it_wakes_who_waits():
    """However often it rings."""
    bell = Bell()
    waiting = asyncio.create_task(bell.heard(60))
    await asyncio.sleep(0)
    bell.ring()
    bell.ring()
    assert await waiting


async def test_it_remembers_nothing():
    """What rang before is not heard, and patience ends."""
    bell = Bell()
    bell.ring()
    assert not await bell.heard(0.0)


async def test_who_gave_up_does_not_hinder_the_next():
    """A waiter that was cancelled leaves the bell as it was."""
    bell = Bell()
    waiting = asyncio.create_task(bell.heard())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    bell.ring()
    again = asyncio.create_task(bell.heard(60))
    await asyncio.sleep(0)
    bell.ring()
    assert await again
