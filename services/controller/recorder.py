"""Writes decisions down behind the back of the calls that made them.

Deciding never waits for the store: records queue here, bounded, and a task of
its own writes them and tries again. Full means that the oldest are given up and
counted; nothing can be learned from those, and nothing else is lost.

A record is written a moment after its decision, not at once: the request that was decided is
being prefilled then, and on a small machine the same processors read its prompt. What comes
to a decision sooner than that has it written first (`settle`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict

from services.controller.decisions.records import DecisionRecord
from services.controller.storage.ports import ServingStore
from thermesh.errors import Unavailable

log = logging.getLogger(__name__)

QUEUE_LIMIT = 10_000
BATCH = 256
GATHER_SECONDS = 0.05
"""By then the first token of a request is out, or its prompt is so long that nobody notices."""
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 2.0


class Recorder:
    """A bounded queue of decisions and the task that empties it.

    `unrecorded` counts the decisions that were given up.
    """

    def __init__(self, store: ServingStore, limit: int = QUEUE_LIMIT) -> None:
        self._store = store
        self._limit = limit
        self._queue: OrderedDict[str, DecisionRecord] = OrderedDict()
        self._wanted = asyncio.Event()
        self._away = False
        self.unrecorded = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, decision_id: str) -> bool:
        return decision_id in self._queue

    def add(self, record: DecisionRecord) -> None:
        """Queue `record`; never waits."""
        self._queue[record.decision_id] = record
        if len(self._queue) > self._limit:
            self._queue.popitem(last=False)
            self.unrecorded += 1
        self._wanted.set()

    async def settle(self, decision_id: str) -> None:
        """Write all that is queued where this decision is; raises Unavailable.

        Whoever knows more of a decision comes by here: one that was made a moment ago, or
        while the store was away, is not unknown.
        """
        if decision_id in self:
            await self.flush()

    async def run(self) -> None:
        """Write what is queued until cancelled."""
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            await self._wanted.wait()
            await asyncio.sleep(GATHER_SECONDS)
            try:
                await self.flush()
            except Unavailable as error:
                self._note_away(error)
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2 * retry_seconds, LAST_RETRY_SECONDS)
            except Exception:
                log.exception("recording decisions failed; it goes on")
                await asyncio.sleep(LAST_RETRY_SECONDS)
            else:
                retry_seconds = FIRST_RETRY_SECONDS

    async def flush(self) -> None:
        """Write all that is queued; raises Unavailable and keeps what is not written."""
        while self._queue:
            batch = [record for record, _ in zip(self._queue.values(), range(BATCH), strict=False)]
            await self._store.record(batch)
            for record in batch:
                self._queue.pop(record.decision_id, None)
        self._wanted.clear()
        if self._away:
            log.info("decisions are recorded again; %d were given up so far", self.unrecorded)
        self._away = False

    async def close(self, timeout: float) -> None:
        """Write what is left, for at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError, Unavailable):
            await asyncio.wait_for(self.flush(), timeout)

    def _note_away(self, error: Unavailable) -> None:
        if not self._away:
            log.warning("%s; decisions queue up", error.message)
        self._away = True
