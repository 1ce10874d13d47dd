"""Both sides of the store in this process, for tests and for a look without Redis.

It goes through the stored text of everything, as Redis does, and passes the
same conformance suite. Nothing expires.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence

from services.controller.decisions.decision import Mode
from services.controller.decisions.records import DecisionRecord, Feedback, Outcome, PolicyVersion
from services.controller.learning.joining import WAITING_LIMIT, Waiting
from services.controller.policies.policy import Parameters
from services.controller.storage import layout, ports, refusals
from services.controller.trust import flood
from services.controller.trust.rollout import Rollout
from thermesh.errors import NotFound, Unavailable


class MemoryStore:
    """`ports.ServingStore` and `ports.LearningStore` in dictionaries.

    Set `reachable` to False to have every call raise Unavailable.
    """

    def __init__(self, feedback_per_minute: int = 0) -> None:
        self._feedback_per_minute = feedback_per_minute
        self._schedules: dict[str, int] = {}
        self.reachable = True
        self.events: list[tuple[str, dict[str, str]]] = []
        self._event_count = 0
        self._decisions: dict[str, tuple[str, str]] = {}
        self._judged: dict[str, int] = {}
        self._outcomes: set[str] = set()
        self._feedback: dict[tuple[str, str], tuple[str, int]] = {}
        self._versions: dict[int, str] = {}
        self._live: dict[str, str] = {}
        self._learner: str | None = None
        self._waiting: dict[str, str] = {}
        self._imported = 0
        self._rollout = ""
        self._candidate = ""
        self._modes: dict[str, Mode] = {}
        self._hinted = False
        self._change = asyncio.Event()

    def _reach(self) -> None:
        if not self.reachable:
            raise Unavailable("the policy store cannot be reached", retry_after=1.0)

    async def record(self, records: Sequence[DecisionRecord]) -> None:
        """See `ports.ServingStore.record`."""
        self._reach()
        for record in records:
            self._decisions[record.decision_id] = (record.context.tenant, record.to_json())

    async def decided(self, decision_ids: list[str]) -> list[str | None]:
        """See `ports.ServingStore.decided`."""
        self._reach()
        return [self._decisions.get(each, ("", None))[1] for each in decision_ids]

    async def submit(self, feedback: Feedback) -> ports.Submission:
        """See `ports.ServingStore.submit`."""
        self._reach()
        status, applied = self._submitted(feedback)
        refusals.of_feedback(status, feedback, wait_us=applied)
        return ports.Submission(status == "duplicate", applied, status == "stored" and self._hint())

    def _submitted(self, feedback: Feedback) -> tuple[str, int]:
        key = (feedback.tenant, feedback.feedback_id)
        if key in self._feedback:
            content, applied = self._feedback[key]
            return ("duplicate" if content == feedback.to_json() else "conflict"), applied
        tenant, record = self._decisions.get(feedback.decision_id, ("", ""))
        if not record or tenant != feedback.tenant:
            return "unknown", 0
        if len(self.events) >= ports.EVENTS_LIMIT:
            return "full", 0
        judged = self._judged.get(feedback.decision_id, 0)
        if judged >= ports.FEEDBACK_A_DECISION_LIMIT:
            return "judged", 0
        if self._feedback_per_minute:
            schedule, wait = flood.taken(
                self._schedules.get(feedback.tenant, 0),
                time.monotonic_ns() // 1000,
                self._feedback_per_minute,
            )
            if wait:
                return "flooded", wait
            self._schedules[feedback.tenant] = schedule
        self._feedback[key] = (feedback.to_json(), 0)
        self._judged[feedback.decision_id] = judged + 1
        self._add("feedback", feedback.to_event_json(), record)
        return "stored", 0

    async def applied_version(self, tenant: str, feedback_id: str) -> int:
        """See `ports.ServingStore.applied_version`."""
        self._reach()
        if (tenant, feedback_id) not in self._feedback:
            raise refusals.unknown_feedback(feedback_id)
        return self._feedback[tenant, feedback_id][1]

    async def report(self, outcome: Outcome) -> ports.Report:
        """See `ports.ServingStore.report`."""
        self._reach()
        if outcome.decision_id in self._outcomes:
            return ports.Report(duplicate=True)
        if len(self.events) >= ports.EVENTS_LIMIT:
            refusals.of_outcome("full")
        self._outcomes.add(outcome.decision_id)
        self._add("outcome", outcome.to_event_json())
        return ports.Report(False, outcome.decision_id in self._judged and self._hint())

    async def live_version(self) -> int:
        """See `ports.ServingStore.live_version`."""
        self._reach()
        return int(self._live.get("version", 0))

    async def version(self, version: int) -> PolicyVersion:
        """See `ports.ServingStore.version`."""
        self._reach()
        if version not in self._versions:
            raise NotFound(f"policy version {version} is not stored", field="version")
        return PolicyVersion.from_json(self._versions[version])

    async def versions(self, below: int, limit: int) -> Sequence[PolicyVersion]:
        """See `ports.ServingStore.versions`."""
        self._reach()
        wanted = range(below - 1, max(1, below - limit) - 1, -1)
        return [PolicyVersion.from_json(self._versions[n]) for n in wanted if n in self._versions]

    async def publish(self, version: PolicyVersion, expected_live: int) -> bool:
        """See `ports.ServingStore.publish`."""
        self._reach()
        return self._published(version, expected_live)

    def _published(self, version: PolicyVersion, expected_live: int) -> bool:
        if int(self._live.get("version", 0)) != expected_live:
            return False
        self._versions[version.version] = version.to_json()
        self._versions.pop(version.version - ports.KEPT_VERSIONS, None)
        self._live["version"] = str(version.version)
        self._change.set()
        return True

    async def rollout(self) -> Rollout | None:
        """See `ports.ServingStore.rollout`."""
        self._reach()
        return Rollout.from_json(self._rollout) if self._rollout else None

    async def set_rollout(self, rollout: Rollout, expected: Rollout | None) -> bool:
        """See `ports.ServingStore.set_rollout`."""
        self._reach()
        if self._rollout != (expected.to_json() if expected else ""):
            return False
        self._rollout = rollout.to_json()
        self._candidate = self._versions.get(rollout.candidate, self._candidate)
        self._change.set()
        return True

    async def candidate(self) -> PolicyVersion:
        """See `ports.ServingStore.candidate`."""
        self._reach()
        if not self._candidate:
            raise NotFound("no candidate was ever on trial")
        return PolicyVersion.from_json(self._candidate)

    async def import_version(
        self, parameters: Parameters, feedback_count: int, created_unix_ms: int
    ) -> PolicyVersion:
        """See `ports.ServingStore.import_version`."""
        self._reach()
        self._imported += 1
        number = ports.IMPORTED_AFTER + self._imported
        version = PolicyVersion(number, parameters, created_unix_ms, "imported", 0, feedback_count)
        self._versions[number] = version.to_json()
        self._versions.pop(number - ports.KEPT_IMPORTED, None)
        return version

    async def imported(self) -> Sequence[PolicyVersion]:
        """See `ports.ServingStore.imported`."""
        self._reach()
        numbers = sorted((n for n in self._versions if n > ports.IMPORTED_AFTER), reverse=True)
        return [PolicyVersion.from_json(self._versions[number]) for number in numbers]

    async def modes(self) -> Mapping[str, Mode]:
        """See `ports.ServingStore.modes`."""
        self._reach()
        return dict(self._modes)

    async def set_mode(self, route: str, mode: Mode | None) -> None:
        """See `ports.ServingStore.set_mode`."""
        self._reach()
        if mode is None:
            self._modes.pop(route, None)
        elif route not in self._modes and len(self._modes) >= ports.ROUTES_LIMIT:
            raise refusals.too_many_routes()
        else:
            self._modes[route] = mode
        self._change.set()

    async def changed(self, timeout: float) -> None:
        """See `ports.ServingStore.changed`."""
        self._reach()
        try:
            # wait_for of Python 3.11 loses a cancellation that comes as the wait ends
            async with asyncio.timeout(timeout):
                await self._change.wait()
        except TimeoutError:
            return
        self._change.clear()

    async def close(self) -> None:
        """See `ports.ServingStore.close`."""

    def checkpoint(self) -> ports.Checkpoint | None:
        """See `ports.LearningStore.checkpoint`."""
        self._reach()
        if not self._live:
            return None
        version = self._versions[int(self._live["version"])]
        return layout.checkpoint_of(
            self._live, version, self._learner, self._rollout, self._candidate
        )

    def publish_prior(self, version: PolicyVersion) -> None:
        """See `ports.LearningStore.publish_prior`."""
        self._reach()
        self._published(version, 0)

    def events_after(self, event_id: str, count: int) -> Sequence[ports.StoredEvent]:
        """See `ports.LearningStore.events_after`."""
        self._reach()
        after = ports.event_order(event_id)
        newer = [each for each in self.events if ports.event_order(each[0]) > after]
        return [layout.stored_event(name, fields) for name, fields in newer[:count]]

    def waiting(self, decision_ids: Collection[str]) -> Mapping[str, Waiting]:
        """See `ports.LearningStore.waiting`."""
        self._reach()
        found = {name: self._waiting[name] for name in decision_ids if name in self._waiting}
        return {name: Waiting.from_json(text) for name, text in found.items()}

    def commit(self, commit: ports.Commit) -> bool:
        """See `ports.LearningStore.commit`."""
        self._reach()
        live = self._live.get("version"), self._live.get("applied", ports.NOTHING_APPLIED)
        expected = str(commit.expected.version.version), commit.expected.applied_event
        if live != expected or commit.expected.rollout_json != self._rollout:
            return False
        self._rollout = layout.rollout_after(commit)
        if commit.published is not None:
            self._published(commit.published, commit.expected.version.version)
        self._live["applied"] = commit.applied_event
        self._learner = layout.learner_json(commit.state, commit.entry_count)
        self._keep(commit)
        for each in commit.applied:
            content, _ = self._feedback[each.tenant, each.feedback_id]
            version = int(self._live["version"])
            self._feedback[each.tenant, each.feedback_id] = (content, version)
        applied = ports.event_order(commit.applied_event)
        self.events = [each for each in self.events if ports.event_order(each[0]) >= applied]
        return True

    def hint_taken(self) -> None:
        """See `ports.LearningStore.hint_taken`."""
        self._reach()
        self._hinted = False

    def _keep(self, commit: ports.Commit) -> None:
        for decision_id, entry in commit.changed.items():
            self._waiting[decision_id] = entry.to_json()
        oldest = commit.entry_count - WAITING_LIMIT
        for decision_id, text in list(self._waiting.items()):
            if Waiting.from_json(text).number <= oldest:
                del self._waiting[decision_id]

    def _hint(self) -> bool:
        wanted, self._hinted = not self._hinted, True
        return wanted

    def _add(self, kind: str, body: str, decision: str = "") -> None:
        self._event_count += 1
        fields = {"kind": kind, "body": body, "decision": decision}
        self.events.append((f"{self._event_count}-0", fields))
