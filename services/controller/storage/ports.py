"""What the controller and its learner need of a store, and what they get from it.

`store` keeps it in Redis, `memory_store` in this process; one conformance suite
holds both to the same behaviour. Each call is atomic. A store that cannot be
reached raises Unavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.controller.decisions.decision import Mode
from services.controller.decisions.records import DecisionRecord, Feedback, Outcome, PolicyVersion
from services.controller.learning.joining import Arrival, Waiting
from services.controller.learning.lesson import LearnerState
from services.controller.policies.policy import Parameters
from services.controller.trust.rollout import Rollout

KEEP_SECONDS = 7 * 24 * 3600
"""How long decisions and outcomes are kept, and feedback may be sent for them.

Feedback records live at least as long as the decision they belong to, so that
an id cannot count again after its record went.
"""

KEPT_VERSIONS = 1000
# Far above every number that learning reaches; a double holds it exactly.
IMPORTED_AFTER = 10**12
KEPT_IMPORTED = 64
EVENTS_LIMIT = 100_000
FEEDBACK_A_DECISION_LIMIT = 100
ROUTES_LIMIT = 256
HINT_SECONDS = 30
NOTHING_APPLIED = "0-0"


@dataclass(frozen=True, slots=True)
class Submission:
    """Feedback is stored. `applied_version` is 0 while pending; `hint_wanted` asks
    the caller to wake the learner.
    """

    duplicate: bool
    applied_version: int = 0
    hint_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """An outcome is stored; `hint_wanted` as in Submission."""

    duplicate: bool
    hint_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the learner stands: the live version and the last event that is in it.

    `rollout_json` is the newest trial as it was stored, also where an older or newer
    release wrote it; a commit compares with that very text.
    """

    version: PolicyVersion
    applied_event: str
    state: LearnerState
    entry_count: int
    rollout_json: str = ""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event of the stream; `arrival` is None where it cannot be read."""

    event_id: str
    arrival: Arrival | None


@dataclass(frozen=True, slots=True)
class Commit:
    """What a batch of events led to. `published` is None where no feedback was
    applied; `expected` is the checkpoint the batch began from.
    """

    expected: Checkpoint
    applied_event: str
    state: LearnerState
    entry_count: int
    changed: Mapping[str, Waiting] = field(default_factory=dict)
    published: PolicyVersion | None = None
    applied: Sequence[Feedback] = ()


class ServingStore(Protocol):
    """What answering calls needs; every method but `close` may raise Unavailable."""

    async def record(self, records: Sequence[DecisionRecord]) -> None:
        """Store decisions; repeating one changes nothing."""
        ...

    async def decided(self, decision_ids: list[str]) -> list[str | None]:
        """Return the stored decisions in the same order, None for each there is not."""
        ...

    async def submit(self, feedback: Feedback) -> Submission:
        """Store feedback and its event once.

        Raises NotFound (decision unknown, expired or of another tenant),
        AlreadyExists (same id, other content), ResourceExhausted (too much
        waits for the learner, or too much for one decision).
        """
        ...

    async def applied_version(self, tenant: str, feedback_id: str) -> int:
        """Return the version that learned from it, 0 while pending; raises NotFound."""
        ...

    async def report(self, outcome: Outcome) -> Report:
        """Store an outcome and its event once for each decision."""
        ...

    async def live_version(self) -> int:
        """Return the number of the live version; 0 where there is none yet."""
        ...

    async def version(self, version: int) -> PolicyVersion:
        """Return one version; raises NotFound."""
        ...

    async def versions(self, below: int, limit: int) -> Sequence[PolicyVersion]:
        """Return at most `limit` versions below that number, newest first."""
        ...

    async def publish(self, version: PolicyVersion, expected_live: int) -> bool:
        """Make `version` live unless the live one is not `expected_live` any more."""
        ...

    async def rollout(self) -> Rollout | None:
        """Return the newest trial, running or over; None where there never was one."""
        ...

    async def set_rollout(self, rollout: Rollout, expected: Rollout | None) -> bool:
        """Store a trial unless the stored one is not `expected` any more."""
        ...

    async def candidate(self) -> PolicyVersion:
        """Return the version of the newest trial, also where newer ones took its place;
        raises NotFound.
        """
        ...

    async def import_version(
        self, parameters: Parameters, feedback_count: int, created_unix_ms: int
    ) -> PolicyVersion:
        """Store parameters from elsewhere under a number of their own, not live."""
        ...

    async def imported(self) -> Sequence[PolicyVersion]:
        """Return the imported versions that are kept, newest first."""
        ...

    async def modes(self) -> Mapping[str, Mode]:
        """Return the modes set, by route."""
        ...

    async def set_mode(self, route: str, mode: Mode | None) -> None:
        """Set the mode of a route, or remove it; raises ResourceExhausted over the limit."""
        ...

    async def changed(self, timeout: float) -> None:
        """Return when a version was published or a mode set, or after `timeout` seconds."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class LearningStore(Protocol):
    """What the learner needs; synchronous, as a Celery task is."""

    def checkpoint(self) -> Checkpoint | None:
        """Return where the learner stands; None where nothing was published yet."""
        ...

    def publish_prior(self, version: PolicyVersion) -> None:
        """Publish version 1 unless a version is live."""
        ...

    def events_after(self, event_id: str, count: int) -> Sequence[StoredEvent]:
        """Return the next events in order of arrival."""
        ...

    def waiting(self, decision_ids: Collection[str]) -> Mapping[str, Waiting]:
        """Return the waiting entries there are for these decisions."""
        ...

    def commit(self, commit: Commit) -> bool:
        """Write all of `commit` at once; False where its expectation does not hold."""
        ...

    def hint_taken(self) -> None:
        """Tell that the next event needs a hint of its own."""
        ...


def event_order(event_id: str) -> tuple[int, int]:
    """Return the position of an event, comparable."""
    milliseconds, _, sequence = event_id.partition("-")
    return int(milliseconds), int(sequence)
