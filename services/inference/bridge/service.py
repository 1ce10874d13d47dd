"""The parts of the bridge, put together by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

from services.inference.bridge.bridge import Bridge
from services.inference.bridge.config import BridgeConfig
from services.inference.bridge.dialect import DIALECTS
from services.inference.bridge.rest import RestUpstream
from services.inference.bridge.server import BridgeService, add_to
from services.inference.bridge.upstream import Upstream
from services.inference.bridge.vllm import starting
from services.inference.config import Config
from services.inference.events import Outcome
from services.inference.measure import Measurements
from services.inference.outcomes import OutcomeSpool, reporter
from thermesh import rpc, telemetry
from thermesh.clock import Clock, SystemClock
from thermesh.errors import FailedPrecondition, MeshError

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
LONGEST_FLUSH_SECONDS = 2.0


def upstream_of(behind: BridgeConfig) -> Upstream:
    """Return the engine that the settings name; raise FailedPrecondition where it cannot be."""
    if not behind.vllm_model:
        return RestUpstream(
            behind.url,
            DIALECTS[behind.dialect],
            behind.key,
            connect_seconds=behind.connect_seconds,
            silence_seconds=behind.silence_seconds,
        )
    if behind.url:
        message = "THERMESH_ENGINE_URL and THERMESH_VLLM_MODEL are both set; unset one"
        raise FailedPrecondition(message)
    return starting.start(behind.vllm_model, json.loads(behind.vllm_arguments))


class Service:
    """One bridge: `start` it, and `stop` it when all is done."""

    def __init__(self, config: Config, behind: BridgeConfig, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        # First of all: an engine in this process may fork before gRPC has threads.
        self._upstream = upstream_of(behind)
        self.bridge = Bridge(
            self._upstream,
            clock,
            model_name=config.model_name,
            upstream_model=behind.model,
            max_requests=config.max_running + config.max_waiting,
            account=self._account,
        )
        self._channel = rpc.connect(config.controller_target)
        self._outcomes = OutcomeSpool(reporter(self._channel), config.outcome_capacity)
        self._measurements = Measurements(
            self.bridge, behind.model, telemetry.meter(), telemetry.tracer()
        )
        self.server = rpc.Server(
            "inference", config.host, config.port, config.grace_seconds, rpc.room_door()
        )
        add_to(self.server, BridgeService(self.bridge))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Serve; return the port. Health says SERVING while the engine behind answers."""
        port = await self.server.start()
        await self.server.set_serving(False)
        self._tasks = [
            asyncio.create_task(self._outcomes.run(), name="outcomes"),
            asyncio.create_task(self._watch(), name="watch"),
        ]
        return port

    async def run_until_signal(self) -> None:
        """Serve until the process is asked to end, then let streams finish."""
        await rpc.until_signal()
        await self.stop()

    async def stop(self) -> None:
        """Refuse new work, let open streams end within the grace, report what is left."""
        self.bridge.drain()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.server.drain()
        await self._outcomes.flush(min(LONGEST_FLUSH_SECONDS, self.server.grace_seconds))
        await self._upstream.close()
        await self._channel.close()

    def _account(self, outcome: Outcome) -> None:
        self._measurements.account(outcome)
        if outcome.plan is not None and outcome.plan.decision_id:
            self._outcomes.add(outcome)

    async def _watch(self) -> None:
        """Follow whether the engine behind answers; one line at each change."""
        was_serving: bool | None = None
        while True:
            try:
                await self._upstream.models()
                is_serving = True
            except MeshError:
                is_serving = False
            if is_serving is not was_serving:
                await self.server.set_serving(is_serving)
                log.info("the engine behind %s", "answers" if is_serving else "is away")
            was_serving = is_serving
            await asyncio.sleep(LOOK_SECONDS)
