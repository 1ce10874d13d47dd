"""Rules that revise a running request from its telemetry.

    repetition_loop   it repeats itself           one step warmer, more penalty
    entropy_collapse  it is sure of every token   one step warmer, more penalty
                      and begins to repeat
    entropy_drift     it is sure of nothing       one step cooler
    settled           neither any more            one step back
    deadline_near     it will not end in time     a lower token budget

Steps are STEP of temperature from what the policy drew, at most two either way
and inside the range it was drawn from. Each rule lets go at another threshold
than it takes hold, and DWELL_TOKENS pass between two steps, so that no request
swings. What the user pinned is never touched. Telemetry does not carry the range
of the decision nor the user's penalties: those are in its course (`courses`), and a
request whose course is not known keeps its temperature.

A revision's number is the token count of the report it answers, which grows whoever
steers: inference drops one whose number is not above the last it applied.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Protocol

from services.controller.decisions.courses import Course
from services.controller.sampling import Penalties, Program, program_at

STEP = 0.15
MAXIMUM_STEPS = 2
DWELL_TOKENS = 32

LOOPING, NOT_LOOPING = 0.5, 0.2  # share of repeated 4-grams
COLLAPSED_NATS, COLLAPSED_REPETITION = 0.1, 0.3
# A distribution over 49,152 tokens has at most 10.8 nats; text that makes sense
# stays below 4.
DRIFTING_NATS, NOT_DRIFTING_NATS = 4.5, 3.0

DEADLINE_NEAR_MS = 2_000
# Part of the tokens that seem possible which are promised, as steps get slower.
DEADLINE_SHARE = 0.8

PENALTY_STEP = 0.1

TRACKED_LIMIT = 4_096


@dataclass(frozen=True, slots=True)
class Telemetry:
    """How one running request goes; as SequenceTelemetry of the contract."""

    request_id: str
    decision_id: str = ""
    token_count: int = 0
    token_budget: int = 0
    mean_entropy: float = 0.0
    repetition: float = 0.0
    deadline_unix_ms: int = 0
    pinned: bool = False
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of one request; None: stays as it is.

    `update_id` is the token count, which grows also across connections.
    """

    request_id: str
    update_id: int
    reason: str
    program: Program | None = None
    penalties: Penalties | None = None
    token_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one request between two reports."""

    steps: int = 0
    stepped_at_token: int = -DWELL_TOKENS
    token_count: int = 0
    seen_unix_ms: int = 0
    promised_budget: int = 0
    known: bool = False


class Courses(Protocol):
    """Knows the courses of decisions."""

    def get(self, decision_id: str) -> Course | None:
        """Return the course, or None where it is not known or not ours to change."""
        ...


class Steerer:
    """Keeps a track of each request of one replica; forgets those that ended."""

    def __init__(self, courses: Courses) -> None:
        self._courses = courses
        self._tracks: OrderedDict[str, Track] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tracks)

    def revise(self, telemetry: Telemetry, now_unix_ms: int) -> Revision | None:
        """Return the change that the rules ask for, if any."""
        track = self._tracks.pop(telemetry.request_id, Track())
        course = None if telemetry.pinned else self._courses.get(telemetry.decision_id)
        if course is not None and not track.known:
            track = taken_over(track, telemetry, course)
        track, revision = revise(track, telemetry, course, now_unix_ms)
        self._tracks[telemetry.request_id] = track
        if len(self._tracks) > TRACKED_LIMIT:
            self._tracks.popitem(last=False)
        return revision

    def forget(self, request_id: str) -> None:
        """Drop what is remembered of a request that ended."""
        self._tracks.pop(request_id, None)


def taken_over(track: Track, telemetry: Telemetry, course: Course) -> Track:
    """Return the track of a request whose course is known from now on.

    Another controller may have stepped before: the temperature that decodes tells, where
    the program does not vary by token. The dwell then begins anew.
    """
    known = replace(track, known=True)
    if course.program != "fixed" or telemetry.token_count == 0 or telemetry.temperature <= 0.0:
        return known
    steps = round((telemetry.temperature - course.temperature) / STEP)
    steps = min(max(steps, -MAXIMUM_STEPS), MAXIMUM_STEPS)
    if steps == 0:
        return known
    return replace(known, steps=steps, stepped_at_token=telemetry.token_count)


def revise(
    track: Track, telemetry: Telemetry, course: Course | None, now_unix_ms: int
) -> tuple[Track, Revision | None]:
    """Apply the rules once; returns what to remember and the change, if any.

    `course` is None where the temperature must stay as it is.
    """
    steps, reason = _steps(track, telemetry) if course else (track.steps, "")
    budget = _budget(track, telemetry, now_unix_ms)
    stepped = course is not None and steps != track.steps
    revised = replace(
        track,
        steps=steps,
        stepped_at_token=telemetry.token_count if stepped else track.stepped_at_token,
        token_count=telemetry.token_count,
        seen_unix_ms=now_unix_ms,
        promised_budget=budget or track.promised_budget,
    )
    if not stepped and budget is None:
        return revised, None
    return revised, Revision(
        request_id=telemetry.request_id,
        update_id=telemetry.token_count,
        reason=reason if stepped else "deadline_near",
        program=_program(course, steps) if course and stepped else None,
        penalties=_penalties(course, steps) if course and stepped else None,
        token_budget=budget,
    )


def _steps(track: Track, telemetry: Telemetry) -> tuple[int, str]:
    """Return the step to be on and the rule that says so."""
    rule = ""
    if telemetry.token_count - track.stepped_at_token >= DWELL_TOKENS:
        rule = _rule(track, telemetry)
    if rule in ("repetition_loop", "entropy_collapse"):
        return min(track.steps + 1, MAXIMUM_STEPS), rule
    if rule == "entropy_drift":
        return max(track.steps - 1, -MAXIMUM_STEPS), rule
    if rule == "settled":
        return track.steps - (1 if track.steps > 0 else -1), rule
    return track.steps, rule


def _rule(track: Track, telemetry: Telemetry) -> str:
    if telemetry.repetition >= LOOPING:
        return "repetition_loop"
    collapsed = telemetry.mean_entropy <= COLLAPSED_NATS
    if collapsed and telemetry.repetition >= COLLAPSED_REPETITION:
        return "entropy_collapse"
    if telemetry.mean_entropy >= DRIFTING_NATS:
        return "entropy_drift"
    if track.steps > 0 and telemetry.repetition <= NOT_LOOPING and not collapsed:
        return "settled"
    if track.steps < 0 and telemetry.mean_entropy <= NOT_DRIFTING_NATS:
        return "settled"
    return ""


def _program(course: Course, steps: int) -> Program:
    wanted = course.temperature + steps * STEP
    return program_at(course.program, min(max(wanted, course.lower), course.upper))


def _penalties(course: Course, steps: int) -> Penalties | None:
    """Return the penalty of the step, or None where the user set penalties."""
    if course.own_penalties:
        return None
    return Penalties(repetition=1.0 + PENALTY_STEP * max(steps, 0))


def _budget(track: Track, telemetry: Telemetry, now_unix_ms: int) -> int | None:
    """Return a budget that ends before the deadline, or None where none is needed."""
    left_ms = telemetry.deadline_unix_ms - now_unix_ms
    elapsed_ms = now_unix_ms - track.seen_unix_ms
    decoded = telemetry.token_count - track.token_count
    measured = track.seen_unix_ms > 0 and elapsed_ms > 0 and decoded > 0
    if not telemetry.deadline_unix_ms or left_ms > DEADLINE_NEAR_MS or not measured:
        return None
    possible = max(1, int(DEADLINE_SHARE * max(left_ms, 0) * decoded / elapsed_ms))
    budget = telemetry.token_count + possible
    # a promise is only lowered, and only where it is clearly too high
    limits = [limit for limit in (telemetry.token_budget, track.promised_budget) if limit]
    if limits and budget >= min(limits) - max(4, possible // 4):
        return None
    return budget
