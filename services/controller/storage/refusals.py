"""The errors a store answers with, the same in Redis and in memory."""

from __future__ import annotations

from services.controller.decisions.records import Feedback
from services.controller.storage.ports import FEEDBACK_A_DECISION_LIMIT, ROUTES_LIMIT
from thermesh.errors import AlreadyExists, NotFound, ResourceExhausted, Unavailable

_RETRY_AFTER_S = 5.0


def of_feedback(status: str, feedback: Feedback, wait_us: int = 0) -> None:
    """Raise where feedback was not stored; `status` as of `submit_feedback.lua`.

    `wait_us` is the time until a tenant that sends too much may send again.
    """
    if status == "flooded":
        raise ResourceExhausted(
            f"tenant {feedback.tenant} sends more feedback than a minute takes",
            retry_after=wait_us / 1e6,
        )
    if status == "unknown":
        raise NotFound(
            f"decision {feedback.decision_id} is unknown or has expired", field="decision_id"
        )
    if status == "conflict":
        raise AlreadyExists(
            f"feedback {feedback.feedback_id} was sent before with other content",
            field="feedback_id",
        )
    if status == "judged":
        raise ResourceExhausted(
            f"a decision takes at most {FEEDBACK_A_DECISION_LIMIT} pieces of feedback",
            field="decision_id",
        )
    if status == "full":
        raise ResourceExhausted(
            "too much feedback waits for the learner", retry_after=_RETRY_AFTER_S
        )


def of_outcome(status: str) -> None:
    """Raise where an outcome was not stored; `status` as of `report_outcome.lua`.

    Unavailable, as the reporter keeps an outcome only on that code.
    """
    if status == "full":
        raise Unavailable("too many outcomes wait for the learner", retry_after=_RETRY_AFTER_S)


def unknown_feedback(feedback_id: str) -> NotFound:
    """Return the error for an id that was never sent, or long ago."""
    return NotFound(f"feedback {feedback_id} is unknown or has expired", field="feedback_id")


def too_many_routes() -> ResourceExhausted:
    """Return the error for one more route than is kept."""
    return ResourceExhausted(f"at most {ROUTES_LIMIT} routes may have a mode", field="route")
