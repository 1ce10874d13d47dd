"""The replica's one `Steer` stream: telemetry out, revisions in.

The engine offers telemetry and never waits: of each request the newest report
is kept until the stream takes it. A broken stream is opened again after a
backoff; until then decoding goes on as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from services.inference import wire
from services.inference.backoff import Backoff
from services.inference.engine import Engine
from services.inference.events import StepResult, Telemetry
from services.inference.request import Source
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError, Unavailable
from thermesh.rpc import translated
from thermesh.v1 import controller_pb2, controller_pb2_grpc

log = logging.getLogger(__name__)

WELCOME_TIMEOUT_SECONDS = 5.0
MAX_PENDING = 4096
"""Requests whose report or end waits for the stream."""

SHORTEST_INTERVAL_SECONDS = 0.02
"""Reports closer together than this are joined."""


class Mailbox:
    """What the controller has not been told yet; bounded, newest first."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self.dropped = 0
        self._telemetry: dict[str, Telemetry] = {}
        self._ended: dict[str, None] = {}

    def observe(self, result: StepResult) -> None:
        """Take telemetry and ends of one engine step."""
        for telemetry in result.telemetry:
            self._telemetry.pop(telemetry.request_id, None)
            self._put(self._telemetry, telemetry.request_id, telemetry)
        for _, outcome in result.outcomes:
            self._telemetry.pop(outcome.context.request_id, None)
            self._put(self._ended, outcome.context.request_id, None)

    def take(self) -> tuple[list[Telemetry], list[str]]:
        """Return (reports, ids of ended requests) and forget them."""
        taken = list(self._telemetry.values()), list(self._ended)
        self._telemetry.clear()
        self._ended.clear()
        self.filled.clear()
        return taken

    def _put(self, box: dict[str, Any], request_id: str, value: Any) -> None:
        if len(box) >= MAX_PENDING:
            del box[next(iter(box))]
            self.dropped += 1
        box[request_id] = value
        self.filled.set()


class _Connection:
    """One life of the stream, shared by its two directions."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_over = False


class Steering:
    """Keeps the stream open; `run` it as a task for the life of the process."""

    def __init__(
        self,
        channel: Any,
        engine: Engine,
        *,
        replica_id: str,
        model: str,
        load_interval_seconds: float,
        backoff: Backoff | None = None,
    ) -> None:
        self.mailbox = Mailbox()
        self.is_connected = False
        self._stub = controller_pb2_grpc.ControllerServiceStub(channel)
        self._engine = engine
        self._hello = controller_pb2.SteerHello(replica_id=replica_id, model=model)
        self._interval = load_interval_seconds
        self._backoff = backoff or Backoff()
        self._was_away = False

    async def run(self) -> None:
        """Open the stream, again and again, until cancelled."""
        while True:
            try:
                with translated():
                    await self._connected()
            except MeshError as error:
                self._note_lost(error)
            finally:
                self.is_connected = False
            await asyncio.sleep(self._backoff.wait_seconds())

    async def _connected(self) -> None:
        connection = _Connection()
        call = self._stub.Steer(self._requests(connection))
        try:
            messages = aiter(call)
            await self._welcome(messages)
            connection.is_open.set()
            async for message in messages:
                if message.WhichOneof("message") == "revision":
                    self._revise(message.revision)
        finally:
            call.cancel()
            # grpc does not end a request iterator that waits when its call
            # failed: it must find out by itself, at once.
            connection.is_over = True
            connection.is_open.set()
            self.mailbox.filled.set()

    async def _requests(
        self, connection: _Connection
    ) -> AsyncIterator[controller_pb2.SteerRequest]:
        """Yield hello, then a report when there is something to tell, at least
        one each interval.
        """
        yield controller_pb2.SteerRequest(hello=self._hello)
        await connection.is_open.wait()
        while not connection.is_over:
            yield controller_pb2.SteerRequest(report=self._report())
            await asyncio.sleep(SHORTEST_INTERVAL_SECONDS)
            await _wait_at_most(self.mailbox.filled.wait, self._interval)

    def _report(self) -> controller_pb2.TelemetryReport:
        telemetry, ended = self.mailbox.take()
        return controller_pb2.TelemetryReport(
            sequences=[_message(one) for one in telemetry],
            ended=[controller_pb2.SequenceEnded(request_id=one) for one in ended],
            load=wire.load(self._engine.load()),
        )

    async def _welcome(self, messages: Any) -> None:
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_SECONDS):
                message = await anext(messages, None)
        except TimeoutError:
            raise Unavailable("the controller did not welcome this replica") from None
        if message is None or message.WhichOneof("message") != "welcome":
            raise FailedPrecondition("the controller must say welcome first")
        self._engine.report_every(message.welcome.report_every_tokens)
        self.is_connected = True
        self._backoff.reset()
        if self._was_away:
            log.info("the controller steers again")
        self._was_away = False

    def _revise(self, revision: controller_pb2.SequenceRevision) -> None:
        try:
            update = wire.update(revision.update, Source.CONTROLLER)
        except InvalidArgument as error:
            log.warning("the controller sent a revision that cannot be read: %s", error.field)
            return
        self._engine.revise(revision.request_id, update)

    def _note_lost(self, error: MeshError) -> None:
        if not self._was_away:
            log.warning("the controller does not steer (%s); decoding goes on", error.code.name)
        self._was_away = True


async def _wait_at_most(wait: Callable[[], Any], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        return


def _message(value: Telemetry) -> controller_pb2.SequenceTelemetry:
    return controller_pb2.SequenceTelemetry(
        request_id=value.request_id,
        decision_id=value.decision_id,
        scenario=value.scenario,
        token_count=value.token_count,
        token_budget=value.token_budget,
        temperature=value.temperature,
        mean_entropy=value.mean_entropy,
        prefill_entropy=value.prefill_entropy,
        repetition=value.repetition,
        revision=value.revision,
        deadline_unix_ms=value.deadline_unix_ms,
        pinned=value.is_pinned,
        traceparent=value.traceparent,
        drafted_tokens=value.drafted_tokens,
        accepted_tokens=value.accepted_tokens,
    )
