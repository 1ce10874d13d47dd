"""Tells the controller how decoding went, sooner or later.

Outcomes wait in a bounded spool. One at a time is reported; while the
controller is away the newest are kept, the oldest dropped and counted. The
decision id makes a report idempotent, so one that may have arrived is repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from services.inference import wire
from services.inference.backoff import Backoff
from services.inference.events import Outcome, StepResult
from thermesh.errors import DeadlineExceeded, Internal, MeshError, ResourceExhausted, Unavailable
from thermesh.rpc import translated
from thermesh.telemetry import span_from
from thermesh.v1 import common_pb2, controller_pb2, controller_pb2_grpc

log = logging.getLogger(__name__)

REPORT_TIMEOUT_SECONDS = 5.0
_PASSING = (Unavailable, DeadlineExceeded, ResourceExhausted, Internal)

Report = Callable[[Outcome], Awaitable[None]]


class OutcomeSpool:
    """Outcomes on their way. `pending` and `lost` are for metrics."""

    def __init__(
        self, report: Report, capacity: int = 1024, backoff: Backoff | None = None
    ) -> None:
        self.lost = 0
        self._report = report
        self._capacity = capacity
        self._backoff = backoff or Backoff()
        self._spool: deque[Outcome] = deque()
        self._filled = asyncio.Event()
        self._is_away = False

    @property
    def pending(self) -> int:
        """Outcomes not reported yet."""
        return len(self._spool)

    def observe(self, result: StepResult) -> None:
        """Take the outcomes of one engine step that followed a decision."""
        for _, outcome in result.outcomes:
            if outcome.plan is not None and outcome.plan.decision_id:
                self.add(outcome)

    def add(self, outcome: Outcome) -> None:
        """Spool `outcome`; drop the oldest where the spool is full."""
        if len(self._spool) >= self._capacity:
            self._spool.popleft()
            self.lost += 1
        self._spool.append(outcome)
        self._filled.set()

    async def run(self) -> None:
        """Report outcomes until cancelled."""
        while True:
            await self._filled.wait()
            if await self.report_next():
                self._backoff.reset()
            else:
                await asyncio.sleep(self._backoff.wait_seconds())
            if not self._spool:
                self._filled.clear()

    async def flush(self, seconds: float) -> None:
        """Report what is left, for at most `seconds`; for the end of a process."""
        try:
            async with asyncio.timeout(seconds):
                while self._spool:
                    if not await self.report_next():
                        await asyncio.sleep(self._backoff.wait_seconds())
        except TimeoutError:
            log.warning("%d outcomes were not reported in time", len(self._spool))
        self.lost += len(self._spool)

    async def report_next(self) -> bool:
        """Report the oldest outcome; return False where it must be tried again."""
        outcome = self._spool[0]
        try:
            await self._report(outcome)
        except _PASSING as error:
            self._note_away(True, error.code.name)
            return False
        except MeshError as error:
            self.lost += 1
            log.warning("an outcome was refused: %s", error.reason)
        self._note_away(False)
        if self._spool and self._spool[0] is outcome:
            self._spool.popleft()
        return True

    def _note_away(self, is_away: bool, reason: str = "") -> None:
        if is_away and not self._is_away:
            log.warning("outcomes wait: the controller does not take them (%s)", reason)
        if self._is_away and not is_away:
            log.info("outcomes are reported again")
        self._is_away = is_away


def reporter(channel: Any) -> Report:
    """Return what reports one outcome over `channel`, in its request's trace."""
    stub = controller_pb2_grpc.ControllerServiceStub(channel)

    async def report(outcome: Outcome) -> None:
        with span_from(outcome.context.traceparent, "inference.report_outcome"), translated():
            call = stub.ReportOutcome(_message(outcome), timeout=REPORT_TIMEOUT_SECONDS)
            try:
                await call
            finally:
                call.cancel()

    return report


def _message(value: Outcome) -> controller_pb2.ReportOutcomeRequest:
    source = value.context
    return controller_pb2.ReportOutcomeRequest(
        context=common_pb2.RequestContext(
            request_id=source.request_id,
            session_id=source.session_id,
            tenant=source.tenant,
            priority=common_pb2.Priority.Name(source.priority),
            deadline_unix_ms=source.deadline_unix_ms,
            traceparent=source.traceparent,
        ),
        decision_id=value.plan.decision_id if value.plan else "",
        finish_reason=wire.FINISH_REASONS[value.finish_reason],
        usage=wire.usage(value.usage),
        mean_temperature=value.mean_temperature,
        mean_entropy=value.mean_entropy,
        prefill_entropy=value.prefill_entropy,
        mean_log_probability=value.mean_log_probability,
        repetition=value.repetition,
        temperatures=value.temperatures,
        drafted_tokens=value.drafted_tokens,
        accepted_tokens=value.accepted_tokens,
    )
