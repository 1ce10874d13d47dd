"""What steering must know of a decision, also of one that another controller made.

Telemetry names a decision but does not carry it. The newest decisions made here are
remembered; any other is looked up in the store, behind the back of the stream that
asked, so that the next report of the request finds it. After a restart, or where a
replica is steered by another controller than the one that decided, steering is late by
one report. What is not ours to steer (pinned, static, unknown) is remembered as such.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from services.controller.decisions.decision import Decision, Source
from services.controller.decisions.records import LoggedDecision
from services.controller.sampling import NO_PENALTIES, ProgramKind
from thermesh.errors import Unavailable

log = logging.getLogger(__name__)

REMEMBERED_LIMIT = 10_000
WANTED_LIMIT = 4_096
BATCH = 256
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Course:
    """Where a request began and how far it may be steered: `temperature` that the policy
    drew, the range it was drawn from, the kind of program, and whether the user set penalties.
    """

    temperature: float
    lower: float
    upper: float
    program: ProgramKind = "fixed"
    own_penalties: bool = False


def course_of(decision: Decision) -> Course | None:
    """Return the course of a decision; None where the temperature is not ours to change."""
    if decision.source is not Source.POLICY:
        return None
    envelope = decision.envelope
    return Course(
        decision.policy_temperature,
        envelope.lower,
        envelope.upper,
        envelope.program,
        decision.sampling.penalties != NO_PENALTIES,
    )


def course_of_record(text: str) -> Course | None:
    """Return the course of a stored decision; raises ValueError where it cannot be read."""
    logged = LoggedDecision.from_json(text)
    if not logged.explored:
        return None
    return Course(
        logged.policy_temperature,
        logged.lower,
        logged.upper,
        logged.program,
        logged.own_penalties,
    )


class Stored(Protocol):
    """Where decisions are written down."""

    async def decided(self, decision_ids: list[str]) -> list[str | None]:
        """Return the stored decisions in the same order, None for each there is not."""
        ...


class Courses:
    """The courses of the newest decisions, and the task that looks up others."""

    def __init__(self, stored: Stored, limit: int = REMEMBERED_LIMIT) -> None:
        self._stored = stored
        self._limit = limit
        self._courses: OrderedDict[str, Course | None] = OrderedDict()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._asked = asyncio.Event()

    def remember(self, decision: Decision) -> None:
        """Keep the course of `decision`; forget the oldest over the limit."""
        self._keep(decision.decision_id, course_of(decision))

    def get(self, decision_id: str) -> Course | None:
        """Return the course, or None where it is not known (yet) or not ours to change.

        One that is not known is looked up; a full list of those forgets the oldest.
        """
        if decision_id in self._courses:
            return self._courses[decision_id]
        if decision_id:
            self._wanted[decision_id] = None
            if len(self._wanted) > WANTED_LIMIT:
                self._wanted.popitem(last=False)
            self._asked.set()
        return None

    async def run(self) -> None:
        """Look up what is wanted until cancelled."""
        while True:
            await self._asked.wait()
            try:
                await self.find()
            except Unavailable:
                # the next report asks again
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("looking up decisions failed; it goes on")
                await asyncio.sleep(RETRY_SECONDS)

    async def find(self) -> None:
        """Look up all that is wanted now; raises Unavailable."""
        while self._wanted:
            names = [name for name, _ in zip(self._wanted, range(BATCH), strict=False)]
            for name, text in zip(names, await self._stored.decided(names), strict=True):
                # what is not there may only not be written yet: it is asked for again
                if text is not None:
                    self._keep(name, course_of_record(text))
                self._wanted.pop(name, None)
        self._asked.clear()

    def _keep(self, decision_id: str, course: Course | None) -> None:
        self._courses[decision_id] = course
        self._courses.move_to_end(decision_id)
        if len(self._courses) > self._limit:
            self._courses.popitem(last=False)
