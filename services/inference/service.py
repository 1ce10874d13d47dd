"""The parts of the inference service, put together by hand.

requests -> server -> engine thread -> streams
                          |-> measurements (metrics, spans)
                          |-> steering     (telemetry to the controller, revisions back)
                          `-> outcomes     (accounts to the controller)
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from services.inference.config import Config
from services.inference.decoding.decoder import Decoder
from services.inference.decoding.drawing import DrawingNetwork
from services.inference.engine import Engine
from services.inference.kernels import CpuNetwork
from services.inference.limits import limits_of
from services.inference.measure import Measurements
from services.inference.outcomes import OutcomeSpool, reporter
from services.inference.prompt import Prompts
from services.inference.sampling.grammar import Grammars
from services.inference.scoring import Scorer
from services.inference.sequences.acceptance import Acceptances
from services.inference.server import InferenceService, add_to
from services.inference.steer import Steering
from thermesh import rpc, semconv, telemetry
from thermesh.clock import Clock, SystemClock

if TYPE_CHECKING:
    from services.inference.models import LoadedModel

LONGEST_FLUSH_SECONDS = 2.0


class Service:
    """One replica: `start` it, and `stop` it when all is done.

    `threads` is the number of cores of a step, `replica_id` its name to the
    controller.
    """

    def __init__(
        self,
        config: Config,
        model: LoadedModel,
        replica_id: str,
        threads: int = 1,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.engine = engine_of(config, model, threads, clock)
        self.measurements = Measurements(
            self.engine, model.name, telemetry.meter(), telemetry.tracer()
        )
        self._channel = rpc.connect(config.controller_target)
        self.outcomes = OutcomeSpool(reporter(self._channel), config.outcome_capacity)
        self.steering = Steering(
            self._channel,
            self.engine,
            replica_id=replica_id,
            model=model.name,
            load_interval_seconds=config.load_interval_seconds,
        )
        self._scorer = Scorer(model.network)
        self._grammars = Grammars(model.tokenizer, model.config.vocabulary_size)
        prompts = Prompts(model.name, model.tokenizer, self.engine.token_capacity, clock)
        door = InferenceService(model, self.engine, prompts, self._scorer, self._grammars)
        self.server = rpc.Server(
            "inference", config.host, config.port, config.grace_seconds, rpc.room_door()
        )
        add_to(self.server, door)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Serve; return the port."""
        self.engine.listeners += [
            self.measurements.observe,
            self.outcomes.observe,
            self.steering.mailbox.observe,
        ]
        self._register_links()
        self.engine.start()
        await self.engine.warm_up()
        self._tasks = [
            asyncio.create_task(self.steering.run(), name="steering"),
            asyncio.create_task(self.outcomes.run(), name="outcomes"),
        ]
        return await self.server.start()

    async def run_until_signal(self) -> None:
        """Serve until the process is asked to end, then let streams finish."""
        await rpc.until_signal()
        await self.stop()

    async def stop(self) -> None:
        """Refuse new work, let open streams end within the grace, report what
        is left, and free everything.
        """
        self.engine.drain()
        await self.server.drain()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.engine.stop()
        await self.outcomes.flush(min(LONGEST_FLUSH_SECONDS, self.server.grace_seconds))
        self._scorer.close()
        self._grammars.close()
        await self._channel.close()

    def _register_links(self) -> None:
        meter, outcomes, mailbox = telemetry.meter(), self.outcomes, self.steering.mailbox
        meter.create_observable_gauge(
            semconv.OUTCOMES_PENDING, [lambda _: [Observation(outcomes.pending)]]
        )
        meter.create_observable_counter(
            semconv.OUTCOMES_LOST, [lambda _: [Observation(outcomes.lost)]]
        )
        meter.create_observable_counter(
            semconv.TELEMETRY_LOST, [lambda _: [Observation(mailbox.dropped)]]
        )
        acceptances = self.engine.decoder.scheduler.speculation.acceptances
        meter.create_observable_counter(semconv.GUESSES, [lambda _: _guesses(acceptances)])
        meter.create_observable_counter(
            semconv.REVISIONS_LOST, [lambda _: [Observation(self.engine.revisions_lost)]]
        )


def engine_of(config: Config, model: LoadedModel, threads: int, clock: Clock) -> Engine:
    """Return the engine of a model, bounded as the settings say and its network can."""
    network = model.network
    tells_prompts = isinstance(network, CpuNetwork) and network.tells_prompts
    limits = limits_of(
        config,
        looks_ahead=isinstance(network, DrawingNetwork),
        reuses_output=not tells_prompts,
        has_light_network=getattr(network, "light_network", None) is not None,
    )
    kv_pages = config.kv_pages or network.fitting_pages(config.step_tokens)
    return Engine(
        Decoder(network, model.tokenizer, limits, kv_pages, clock),
        limits,
        context_length=model.config.context_length,
        vocabulary_size=model.config.vocabulary_size,
        clock=clock,
        threads=threads,
    )


def _guesses(acceptances: Acceptances) -> list[Observation]:
    return [
        Observation(count, {semconv.REASON: reason, semconv.TEMPERATURE: temperature})
        for reason, counts in (("right", acceptances.right), ("wrong", acceptances.wrong))
        for temperature, count in list(counts.items())
    ]
