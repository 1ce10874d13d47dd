"""Wakes the learner without making anybody wait.

A hint is only for speed: the learner also looks by itself. So hints are sent
from one task, one at a time, and one that cannot be sent is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Hints:
    """Sends hints through `send`, which may block and raise; it runs in a thread."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._traceparent: str | None = None
        self._wanted = asyncio.Event()
        self._failing = False

    def want(self, traceparent: str) -> None:
        """Ask for a hint; several at once become one."""
        self._traceparent = traceparent
        self._wanted.set()

    async def run(self) -> None:
        """Send hints until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await asyncio.to_thread(self._send, self._traceparent or "")
                self._failing = False
            except Exception:
                if not self._failing:
                    log.warning("the learner cannot be hinted; it will look by itself")
                self._failing = True
