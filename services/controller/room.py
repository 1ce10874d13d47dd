"""The parts of the controller, put together by hand; gRPC is added around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from services.controller.config import Config
from services.controller.deciding import Decider
from services.controller.decisions.courses import Courses
from services.controller.decisions.decision import Mode
from services.controller.decisions.pace import Forecaster
from services.controller.decisions.steering import Steerer
from services.controller.forecasting.forecast import shipped
from services.controller.hints import Hints
from services.controller.metrics import Metrics
from services.controller.newborn import newborn
from services.controller.recorder import Recorder
from services.controller.sampling import ProgramKind
from services.controller.serving import Serving
from services.controller.storage.ports import ServingStore
from services.controller.watcher import Watcher
from thermesh import endings
from thermesh.clock import Clock

_LAST_WRITE_SECONDS = 2.0


@dataclass(frozen=True)
class Room:
    """Everything that answering a call may need."""

    config: Config
    clock: Clock
    store: ServingStore
    serving: Serving
    recorder: Recorder
    hints: Hints
    watcher: Watcher
    courses: Courses
    metrics: Metrics
    decider: Decider
    forecaster: Forecaster

    def steerer(self) -> Steerer:
        """Return what follows the requests of one replica."""
        return Steerer(self.courses)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run what works behind the calls; at the end write what is left."""
        loops = (self.watcher.run(), self.recorder.run(), self.hints.run(), self.courses.run())
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            await endings.cancelled(tasks)
            await self.recorder.close(_LAST_WRITE_SECONDS)
            await self.store.close()


def furnish(
    config: Config,
    store: ServingStore,
    clock: Clock,
    send_hint: Callable[[str], None],
    generator: np.random.Generator,
) -> Room:
    """Put the room together; nothing is reached yet."""
    serving, courses = Serving(Mode(config.default_mode), newborn(config)), Courses(store)
    recorder = Recorder(store)
    metrics = Metrics(lambda: serving.state.snapshot.version, lambda: recorder.unrecorded)
    forecaster = Forecaster(shipped() if config.forecasts else None)
    decider = Decider(
        serving=serving,
        recorder=recorder,
        courses=courses,
        metrics=metrics,
        clock=clock,
        generator=generator,
        forecaster=forecaster,
        program=cast("ProgramKind", config.token_program),
    )
    return Room(
        config=config,
        clock=clock,
        store=store,
        serving=serving,
        recorder=recorder,
        hints=Hints(send_hint),
        watcher=Watcher(store, serving, clock),
        courses=courses,
        metrics=metrics,
        decider=decider,
        forecaster=forecaster,
    )
