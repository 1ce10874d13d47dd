"""The decision path of the service: decide, remember, queue the record; no I/O."""

from __future__ import annotations

import time

import numpy as np

from services.controller.capabilities import USUAL, Capabilities
from services.controller.decisions.courses import Courses
from services.controller.decisions.decision import Constraints, Decision, Observation, decide
from services.controller.decisions.pace import Forecaster
from services.controller.decisions.records import Context, DecisionRecord
from services.controller.metrics import Metrics
from services.controller.recorder import Recorder
from services.controller.sampling import ProgramKind
from services.controller.serving import Serving
from thermesh.clock import Clock


class Decider:
    """Decides by the state that is serving now."""

    def __init__(
        self,
        *,
        serving: Serving,
        recorder: Recorder,
        courses: Courses,
        metrics: Metrics,
        clock: Clock,
        generator: np.random.Generator,
        forecaster: Forecaster,
        program: ProgramKind = "fixed",
    ) -> None:
        self._forecaster = forecaster
        self._program = program
        self._serving = serving
        self._recorder = recorder
        self._courses = courses
        self._metrics = metrics
        self._clock = clock
        self._generator = generator

    def decide(
        self,
        observation: Observation,
        constraints: Constraints,
        context: Context,
        model: str,
        route: str,
        *,
        capabilities: Capabilities = USUAL,
    ) -> Decision:
        """Return the decision for one request; raises InvalidArgument for its scenario."""
        began = time.perf_counter()
        state = self._serving.state
        mode = state.mode_of(route, constraints.mode)
        live, trial = state.snapshot, state.candidate
        snapshot = trial.chosen(self._key(context), live) if trial else live
        decision = decide(
            snapshot,
            observation,
            constraints,
            mode,
            self._generator,
            capabilities=capabilities,
            forecast=self._forecaster.forecast(observation.features, model),
            program=self._program,
        )
        if trial is not None:
            decision = trial.noted(decision, live, self._generator)
        self._courses.remember(decision)
        self._forecaster.remember(decision.decision_id, observation.features)
        now = self._clock.unix_ms()
        self._recorder.add(DecisionRecord(decision, context, model, route, now))
        self._metrics.decided(decision, time.perf_counter() - began)
        return decision

    def _key(self, context: Context) -> str:
        """Return what a trial splits by; without session and request each decision is its own."""
        return context.session_id or context.request_id or self._generator.bytes(8).hex()
