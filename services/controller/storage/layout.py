"""How the controller's state lies in Redis: keys, and the text of stored values.

All keys share the hash tag `{policy}`, so that one script may touch them all
also where Redis is a cluster.
"""

from __future__ import annotations

import importlib.resources
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.controller.decisions.records import Feedback, LoggedDecision, Outcome, PolicyVersion
from services.controller.learning.joining import Arrival, FeedbackArrived, OutcomeArrived
from services.controller.learning.lesson import LearnerState, Memory
from services.controller.storage.ports import (
    KEPT_VERSIONS,
    NOTHING_APPLIED,
    Checkpoint,
    Commit,
    StoredEvent,
)
from services.controller.trust.guardrail import Guardrail
from services.controller.trust.rollout import Rollout

log = logging.getLogger(__name__)

PREFIX = "thermesh:{policy}:"
LIVE = PREFIX + "live"
LEARNER = PREFIX + "learner"
WAITING = PREFIX + "waiting"
WAITING_ORDER = PREFIX + "waiting-order"
EVENTS = PREFIX + "events"
MODES = PREFIX + "modes"
ROLLOUT = PREFIX + "rollout"
IMPORTED = PREFIX + "imported"
CANDIDATE = PREFIX + "candidate"
HINT = PREFIX + "hint"
CHANGES = PREFIX + "changes"


def decision_key(decision_id: str) -> str:
    """Key of a stored decision."""
    return f"{PREFIX}decision:{decision_id}"


def outcome_key(decision_id: str) -> str:
    """Key of the outcome of a decision."""
    return f"{PREFIX}outcome:{decision_id}"


def feedback_key(tenant: str, feedback_id: str) -> str:
    """Key of one piece of feedback; tenants and ids hold no colon."""
    return f"{PREFIX}feedback:{tenant}:{feedback_id}"


def schedule_key(tenant: str) -> str:
    """Key of when the feedback of a tenant is scheduled (`flood`)."""
    return f"{PREFIX}schedule:{tenant}"


def version_key(version: int) -> str:
    """Key of one version."""
    return f"{PREFIX}version:{version}"


def script(name: str) -> str:
    """Return the text of a Lua script of this room."""
    return importlib.resources.files(__package__).joinpath("lua", f"{name}.lua").read_text()


def publish_arguments(version: PolicyVersion, expected: int) -> tuple[list[str], list[Any]]:
    """Return keys and arguments of `publish.lua`."""
    keys = [LIVE, version_key(version.version), version_key(version.version - KEPT_VERSIONS)]
    return keys, [expected, version.version, version.to_json(), CHANGES]


def commit_arguments(commit: Commit, oldest_entry: int) -> tuple[list[str], list[Any]]:
    """Return keys and arguments of `commit.lua`."""
    expected = commit.expected
    live = commit.published.version if commit.published else expected.version.version
    keys = [LIVE, LEARNER, WAITING, WAITING_ORDER, EVENTS]
    keys += [version_key(live), version_key(live - KEPT_VERSIONS), ROLLOUT]
    keys += [feedback_key(each.tenant, each.feedback_id) for each in commit.applied]
    arguments: list[Any] = [
        expected.version.version,
        expected.applied_event,
        live,
        commit.published.to_json() if commit.published else "",
        commit.applied_event,
        learner_json(commit.state, commit.entry_count),
        oldest_entry,
        CHANGES,
        expected.rollout_json,
        rollout_after(commit),
    ]
    for decision_id, entry in commit.changed.items():
        arguments += [decision_id, entry.number, entry.to_json()]
    return keys, arguments


def learner_json(state: LearnerState, entry_count: int) -> str:
    """Return what the learner remembers beside the parameters."""
    stored = {
        "baselines": state.baselines,
        "baseline_counts": state.baseline_counts,
        "entry_count": entry_count,
        "memory": state.memory.to_lists(),
    }
    return json.dumps(stored, separators=(",", ":"))


def rollout_after(commit: Commit) -> str:
    """Return the stored form of the newest trial after a commit; what cannot be read stays."""
    rollout = commit.state.rollout
    return rollout.to_json() if rollout else commit.expected.rollout_json


def checkpoint_of(
    live: Mapping[str, str],
    version_json: str,
    learner: str | None,
    rollout_json: str | None = None,
    candidate_json: str | None = None,
) -> Checkpoint:
    """Put a checkpoint together from its stored parts.

    Parameters and feedback count come with the version, so that a promotion or
    a rollback changes what is learned on.
    """
    version = PolicyVersion.from_json(version_json)
    state = LearnerState(version.parameters, version.feedback_count)
    entry_count = 0
    if learner:
        stored = json.loads(learner)
        entry_count = stored["entry_count"]
        state = LearnerState(
            version.parameters,
            version.feedback_count,
            tuple(stored["baselines"]),
            tuple(stored["baseline_counts"]),
            _memory(stored, version),
        )
    rollout = _rollout(rollout_json)
    if rollout is not None and rollout.stage.is_running and candidate_json:
        candidate = PolicyVersion.from_json(candidate_json).parameters
        state = replace(state, candidate=candidate)
    state = replace(state, rollout=rollout)
    return Checkpoint(
        version, live.get("applied", NOTHING_APPLIED), state, entry_count, rollout_json or ""
    )


def _rollout(stored: str | None) -> Rollout | None:
    """Read a trial; one that cannot be read is logged and counts nothing."""
    try:
        return Rollout.from_json(stored) if stored else None
    except (ValueError, KeyError, TypeError):
        log.exception("the trial of a candidate cannot be read; nothing is counted for it")
        return None


def _memory(stored: Mapping[str, Any], version: PolicyVersion) -> Memory:
    """Return the learner's memory; what a person made live is watched from anew."""
    if "memory" not in stored:
        return Memory()
    memory = Memory.from_lists(stored["memory"])
    if version.reason in ("promoted", "rolled_back"):
        return replace(memory, guardrail=Guardrail())
    return memory


def stored_event(event_id: str, fields: Mapping[str, str]) -> StoredEvent:
    """Read one event; what cannot be read is logged and carries no arrival."""
    try:
        return StoredEvent(event_id, _arrival(fields))
    except (ValueError, KeyError, TypeError):
        log.exception("event %s cannot be read and is passed over", event_id)
        return StoredEvent(event_id, None)


def _arrival(fields: Mapping[str, str]) -> Arrival:
    if fields["kind"] == "feedback":
        decision = LoggedDecision.from_json(fields["decision"])
        return FeedbackArrived(Feedback.from_json(fields["body"]), decision)
    return OutcomeArrived(Outcome.from_json(fields["body"]))
