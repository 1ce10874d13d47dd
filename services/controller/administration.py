"""Promotion and rollback: an older version's parameters under a new number.

The live number only grows, so that whoever holds a version can tell which is
newer, and what was live stays where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.controller.decisions.records import PolicyVersion
from services.controller.storage.ports import ServingStore
from services.controller.trust.rollout import Rollout, Stage
from thermesh.clock import Clock
from thermesh.errors import Aborted, FailedPrecondition, NotFound

# Between reading and writing the learner commits now and then.
STOPPING_TRIES = 20


async def promote(
    store: ServingStore, clock: Clock, version: int, expected_live: int
) -> PolicyVersion:
    """Publish the parameters of `version`; `expected_live` 0 does not check.

    Raises NotFound, and Aborted where another version is live than expected.
    """
    live = await _live(store, expected_live)
    return await _publish(store, clock, await store.version(version), live, "promoted")


async def roll_back(store: ServingStore, clock: Clock, expected_live: int) -> PolicyVersion:
    """Publish the parameters of the version before the live one.

    Going back twice goes back two versions: before a version that was itself
    rolled back to lies the one before its origin. Raises FailedPrecondition
    where there is none, Aborted as `promote`.
    """
    live = await _live(store, expected_live)
    try:
        before = await _before(store, live)
        target = await store.version(before)
    except NotFound as error:
        raise FailedPrecondition("there is no earlier version to go back to") from error
    return await _publish(store, clock, target, live, "rolled_back")


async def _live(store: ServingStore, expected: int) -> int:
    live = await store.live_version()
    if expected not in (0, live):
        raise Aborted(
            f"version {live} is live, not {expected}; read it and try again",
            field="expected_live_version",
        )
    return live


async def _before(store: ServingStore, version: int) -> int:
    origin = await store.version(version)
    while origin.reason == "rolled_back":
        origin = await store.version(origin.parent_version)
    return origin.version - 1


async def _publish(
    store: ServingStore, clock: Clock, source: PolicyVersion, live: int, reason: str
) -> PolicyVersion:
    published = PolicyVersion(
        version=live + 1,
        parameters=source.parameters,
        created_unix_ms=clock.unix_ms(),
        reason=reason,
        parent_version=source.version,
        feedback_count=source.feedback_count,
    )
    if not await store.publish(published, expected_live=live):
        raise Aborted("another version was published meanwhile; read it and try again")
    return published


@dataclass(frozen=True, slots=True)
class Wanted:
    """A trial that a person asks for."""

    candidate: int
    stage: Stage
    share: float
    promotes: bool


async def start_rollout(store: ServingStore, clock: Clock, wanted: Wanted) -> Rollout:
    """Put a stored version on trial beside the live policy.

    Raises NotFound; FailedPrecondition for the live version, and while another candidate
    is on trial (the same one may go from shadow to canary); Aborted where somebody was
    faster.
    """
    await store.version(wanted.candidate)
    if await store.live_version() == wanted.candidate:
        raise FailedPrecondition("the live version cannot be its own candidate", field="version")
    before = await store.rollout()
    if before is not None and before.stage.is_running and before.candidate != wanted.candidate:
        raise FailedPrecondition(
            f"version {before.candidate} is on trial; stop it first", field="version"
        )
    rollout = Rollout(
        number=before.number + 1 if before else 1,
        candidate=wanted.candidate,
        stage=wanted.stage,
        share=wanted.share,
        promotes=wanted.promotes,
        began_unix_ms=clock.unix_ms(),
    )
    if not await store.set_rollout(rollout, before):
        raise Aborted("the rollout was changed meanwhile; read it and try again")
    return rollout


async def newest_rollout(store: ServingStore) -> Rollout:
    """Return the newest trial, running or over; raises NotFound."""
    rollout = await store.rollout()
    if rollout is None:
        raise NotFound("no candidate was ever on trial")
    return rollout


async def stop_rollout(store: ServingStore) -> Rollout:
    """End the running trial: the live policy decides everything again.

    Raises FailedPrecondition where none is running.
    """
    for _ in range(STOPPING_TRIES):
        before = await store.rollout()
        if before is None or not before.stage.is_running:
            raise FailedPrecondition("no candidate is on trial")
        # the learner counts meanwhile; what it counted is kept
        stopped = replace(before, stage=Stage.STOPPED)
        if await store.set_rollout(stopped, before):
            return stopped
    raise Aborted("the rollout changes too fast; try again")
