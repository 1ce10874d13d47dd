"""The spool of outcomes and the mailbox of telemetry: bounded, ordered, patient."""

from __future__ import annotations

import asyncio
import contextlib

from services.inference.backoff import Backoff
from services.inference.events import FinishReason, Outcome, StepResult, Telemetry, Usage
from services.inference.outcomes import OutcomeSpool
from services.inference.request import Context
from services.inference.steer import MAX_PENDING, Mailbox
from thermesh.errors import InvalidArgument, Unavailable
from thermesh.testing import eventually


def outcome(request_id: str) -> Outcome:
    usage = Usage()
    reason = FinishReason.STOP
    return Outcome(Context(request_id), None, reason, usage, 0, 0, 0, 0, 0, ())


def telemetry(request_id: str, count: int = 1) -> Telemetry:
    return Telemetry(request_id, "", "", count, 0, 0, 0, 0, 0, 0, 0, False, "")


class Controller:
    """Takes outcomes unless it raises what it was told to."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.error: Exception | None = None

    async def report(self, outcome: Outcome) -> None:
        if self.error:
            raise self.error
        self.taken.append(outcome.context.request_id)


async def test_a_full_spool_drops_the_oldest_and_counts() -> None:
    """The newest outcomes are kept while the controller is away."""
    controller = Controller()
    spool = OutcomeSpool(controller.report, capacity=2)
    for name in "abc":
        spool.add(outcome(name))
    assert (spool.pending, spool.lost) == (2, 1)
    await spool.flush(1.0)
    assert controller.taken == ["b", "c"]


async def test_a_passing_failure_keeps_the_outcome() -> None:
    """While the controller cannot take it the outcome stays first in line."""
    controller = Controller()
    spool = OutcomeSpool(controller.report)
    spool.add(outcome("a"))
    controller.error = Unavailable("away")
    assert not await spool.report_next()
    assert (spool.pending, spool.lost) == (1, 0)
    controller.error = None
    assert await spool.report_next()
    assert controller.taken == ["a"]


async def test_a_refused_outcome_is_lost_and_counted() -> None:
    """Repeating what is invalid would block the others for ever."""
    controller = Controller()
    controller.error = InvalidArgument("bad")
    spool = OutcomeSpool(controller.report)
    spool.add(outcome("a"))
    assert await spool.report_next()
    assert (spool.pending, spool.lost) == (0, 1)


async def test_running_reports_in_order() -> None:
    """Outcomes are reported in the order in which requests ended."""
    controller = Controller()
    spool = OutcomeSpool(controller.report, backoff=Backoff(0.001, 0.001))
    running = asyncio.create_task(spool.run())
    for name in "abcde":
        spool.add(outcome(name))
    await eventually(lambda: spool.pending == 0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert controller.taken == list("abcde")


async def test_flushing_tries_again_until_its_time_is_over() -> None:
    """At the end of a process a passing failure is outlived, a lasting one counted."""
    attempts = []

    async def second_time(outcome: Outcome) -> None:
        attempts.append(outcome)
        if len(attempts) < 2:
            raise Unavailable("away")

    spool = OutcomeSpool(second_time, backoff=Backoff(0.001, 0.001))
    spool.add(outcome("a"))
    await spool.flush(1.0)
    assert (spool.pending, spool.lost, len(attempts)) == (0, 0, 2)
    away = Controller()
    away.error = Unavailable("away")
    spool = OutcomeSpool(away.report, backoff=Backoff(0.001, 0.001))
    spool.add(outcome("a"))
    await spool.flush(0.01)
    assert spool.lost == 1


def test_the_backoff_doubles_to_its_limit_and_resets() -> None:
    """Each wait is in the upper half of its step; an answer starts anew."""
    backoff = Backoff(first=1.0, longest=4.0)
    for longest in (1.0, 2.0, 4.0, 4.0):
        assert longest / 2 <= backoff.wait_seconds() <= longest
    backoff.reset()
    assert backoff.wait_seconds() <= 1.0


def test_the_newest_report_of_a_request_wins() -> None:
    """A slow stream is told the latest state, and not of a request that ended."""
    mailbox = Mailbox()
    mailbox.observe(StepResult(telemetry=[telemetry("a", 1), telemetry("b", 1)]))
    mailbox.observe(StepResult(telemetry=[telemetry("a", 2)]))
    mailbox.observe(StepResult(outcomes=[(None, outcome("b"))]))
    reports, ended = mailbox.take()
    assert [(report.request_id, report.token_count) for report in reports] == [("a", 2)]
    assert ended == ["b"]
    assert mailbox.take() == ([], [])


def test_the_mailbox_is_bounded() -> None:
    """Without a controller the oldest ends are dropped and counted."""
    mailbox = Mailbox()
    for number in range(MAX_PENDING + 5):
        mailbox.observe(StepResult(outcomes=[(None, outcome(str(number)))]))
    _, ended = mailbox.take()
    assert len(ended) == MAX_PENDING
    assert (ended[-1], mailbox.dropped) == (str(MAX_PENDING + 4), 5)
