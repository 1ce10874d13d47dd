"""A bell for one who waits: asyncio.Event with one waiter, which is all that a stream has.

An event under `asyncio.timeout` costs some ten microseconds each time it is waited for, and a
token is waited for three times on its way.
"""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes the one who waits for it. It remembers nothing: look whether there is something to
    wait for first.
    """

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[bool] | None = None

    def ring(self) -> None:
        """Wake who waits, if anybody does."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def heard(self, patience_seconds: float | None = None) -> bool:
        """Return True once it rings, False where it does not within the patience."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        if patience_seconds is None:
            return await waiter
        late = loop.call_later(patience_seconds, _give_up, waiter)
        try:
            return await waiter
        finally:
            late.cancel()


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
