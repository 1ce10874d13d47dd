"""Keeps the serving state in step with the store.

A message tells of each change; every POLL_SECONDS it looks without one, as a
message may be lost while Redis restarts. While the store is away decisions go
on by the last state.
"""

from __future__ import annotations

import asyncio
import logging

from services.controller.decisions.records import PolicyVersion, prior_version
from services.controller.policies.policy import PolicySnapshot
from services.controller.serving import Serving
from services.controller.storage.ports import ServingStore
from services.controller.trust.trial import Candidate
from thermesh.clock import Clock
from thermesh.errors import MeshError, NotFound, Unavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
RETRY_SECONDS = 0.25


class Watcher:
    """Swaps in what was published. `current` is set once the store answered first."""

    def __init__(self, store: ServingStore, serving: Serving, clock: Clock) -> None:
        self._store = store
        self._serving = serving
        self._newborn = serving.state.snapshot.parameters
        self._clock = clock
        self._loaded_version = 0
        self._refused_version = 0
        self._away = False
        self.current = asyncio.Event()

    async def run(self) -> None:
        """Follow the store until cancelled."""
        while True:
            try:
                await self.refresh()
                await self._store.changed(POLL_SECONDS)
            except Unavailable as error:
                self._note_away(error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("following the policy store failed; it goes on")
                await asyncio.sleep(RETRY_SECONDS)

    async def refresh(self) -> None:
        """Bring the serving state up to date; raises Unavailable."""
        live = await self._store.live_version()
        if live == 0:
            await self._store.publish(self._first(), expected_live=0)
            live = await self._store.live_version()
        if live not in (self._loaded_version, self._refused_version):
            await self._load(live)
        self._serving.swap_modes(await self._store.modes())
        self._serving.swap_candidate(await self._candidate())
        if self._away:
            log.info("the policy store is back; version %d is live", live)
        self._away = False
        self.current.set()

    async def _candidate(self) -> Candidate | None:
        """Return the candidate on trial; its snapshot is kept while it is the same."""
        try:
            rollout = await self._store.rollout()
            if rollout is None or not rollout.stage.is_running:
                return None
            known = self._serving.state.candidate
            if known is not None and known.rollout.number == rollout.number:
                return Candidate(rollout, known.snapshot)
            version = await self._store.candidate()
        except (NotFound, ValueError, KeyError, TypeError):
            log.exception("a candidate cannot be tried; the live policy decides")
            return None
        live = self._serving.state.snapshot
        return Candidate(
            rollout,
            PolicySnapshot(version.version, version.parameters, version.feedback_count, live),
        )

    def _first(self) -> PolicyVersion:
        return prior_version(self._clock.unix_ms(), self._newborn)

    async def _load(self, live: int) -> None:
        try:
            version = await self._store.version(live)
        except NotFound:
            return  # newer ones took its place; the next look finds them
        except (ValueError, KeyError, TypeError):
            log.exception("version %d cannot be read; decisions go on by the last one", live)
            self._refused_version = live
            return
        self._serving.swap_policy(version)
        self._loaded_version = live

    def _note_away(self, error: MeshError) -> None:
        if not self._away:
            log.warning("%s; decisions go on by the last version", error.message)
        self._away = True
