"""Promotion and rollback: an older version's parameters under a new number.

The live number only grows, so that whoever holds a version can tell which is
newer, and what was live stays where it was.
"""

from __future__ import annotations

from services.controller.ports import ServingStore
from services.controller.records import PolicyVersion
from thermesh.clock import Clock
from thermesh.errors import Aborted, FailedPrecondition, NotFound


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
