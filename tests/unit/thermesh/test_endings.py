"""Tasks that are ended whatever becomes of a cancellation."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from thermesh import endings


class Loop:
    """Runs until cancelled; loses the first so many cancellations."""

    def __init__(self, lost):
        self.lost = lost
        self.has_cleaned_up = False

    async def run(self):
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.lost -= 1
                    if self.lost < 0:
                        raise
        finally:
            self.has_cleaned_up = True


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_loop_ends_though_it_loses_cancellations(lost, monkeypatch):
    """As one does that sends to Redis by `wait_for`; it is cancelled until it ends."""
    monkeypatch.setattr(endings, "REPEAT_SECONDS", 0.001)
    loops = [Loop(lost), Loop(0)]
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    await asyncio.sleep(0)
    await endings.cancelled(tasks)
    assert all(task.done() for task in tasks)
    assert all(loop.has_cleaned_up for loop in loops)


async def test_what_has_ended_is_not_waited_for():
    """A loop that failed before is over; its error was told when it came."""

    async def fail():
        raise ValueError

    task = asyncio.create_task(fail())
    with contextlib.suppress(ValueError):
        await task
    await endings.cancelled([task])
    await endings.cancelled([])
    assert task.done()
