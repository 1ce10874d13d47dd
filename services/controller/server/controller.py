"""The gRPC shell of the controller; it holds no rule of the business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from opentelemetry import trace

from services.controller import administration, wire
from services.controller.decisions.steering import Steerer
from services.controller.room import Room
from services.controller.wire import rollout, steering
from services.controller.wire.capabilities import capabilities
from services.controller.wire.forecast import forecast
from thermesh import semconv
from thermesh.endings import until
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.telemetry import current_traceparent
from thermesh.v1 import controller_pb2, controller_pb2_grpc

FULL_NAME = "thermesh.v1.ControllerService"
ADD = controller_pb2_grpc.add_ControllerServiceServicer_to_server


class ControllerService(controller_pb2_grpc.ControllerServiceServicer):
    """Answers for the policy; see the contract for each method.

    Once `draining` is set the streams of `Steer` end, which go on for ever otherwise.
    """

    def __init__(self, room: Room, draining: asyncio.Event) -> None:
        self._room = room
        self._draining = draining
        self._store = room.store

    async def Decide(
        self, request: controller_pb2.DecideRequest, _: Any
    ) -> controller_pb2.DecideResponse:
        """Decide how to decode one request; touches no store."""
        decision = self._room.decider.decide(
            wire.observation(request),
            wire.constraints(request.constraints),
            wire.context(request.context, current_traceparent()),
            wire.model(request.model),
            wire.any_route(request.route),
            capabilities=capabilities(request),
        )
        trace.get_current_span().set_attributes(
            {
                semconv.REQUEST_ID: request.context.request_id,
                semconv.DECISION_ID: decision.decision_id,
                semconv.POLICY_VERSION: decision.policy_version,
                semconv.PLAN_SOURCE: decision.source.value,
                semconv.SCENARIO: decision.envelope.scenario,
            }
        )
        plan = wire.plan(decision)
        if decision.forecast is not None:
            deadline, now = request.context.deadline_unix_ms, self._room.clock.unix_ms()
            plan.forecast.CopyFrom(forecast(decision, decision.forecast, deadline, now))
        return controller_pb2.DecideResponse(plan=plan)

    async def Steer(
        self, requests: AsyncIterator[controller_pb2.SteerRequest], _: Any
    ) -> AsyncIterator[controller_pb2.SteerResponse]:
        """Follow one replica's requests and revise them."""
        steerer: Steerer | None = None
        async for request in until(self._draining, requests):
            if request.WhichOneof("message") == "hello":
                if steerer is not None:
                    raise FailedPrecondition("hello was said before", field="hello")
                steerer = self._room.steerer()
                yield steering.welcome(self._room.config.report_every_tokens)
                continue
            if steerer is None:
                raise InvalidArgument("the first message must be hello", field="message")
            for telemetry in steering.telemetries(request.report):
                revision = steerer.revise(telemetry, self._room.clock.unix_ms())
                if revision is not None:
                    self._room.metrics.steered(revision.reason)
                    yield steering.revision(revision)
            for ended in request.report.ended:
                steerer.forget(ended.request_id)

    async def ReportOutcome(
        self, request: controller_pb2.ReportOutcomeRequest, _: Any
    ) -> controller_pb2.ReportOutcomeResponse:
        """Store how decoding went."""
        outcome = wire.outcome(request)
        self._room.forecaster.learn(outcome)
        await self._room.recorder.settle(outcome.decision_id)
        report = await self._store.report(outcome)
        if report.hint_wanted:
            self._room.hints.want(current_traceparent())
        return controller_pb2.ReportOutcomeResponse(duplicate=report.duplicate)

    async def ListPolicies(
        self, request: controller_pb2.ListPoliciesRequest, _: Any
    ) -> controller_pb2.ListPoliciesResponse:
        """List stored versions, newest first."""
        limit = wire.limit(request.limit)
        live = await self._store.live_version()
        below = request.before_version or live + 1
        versions = await self._store.versions(min(below, live + 1), limit)
        if not request.before_version:
            versions = [*versions, *await self._store.imported()]
        return wire.policies(versions, live, await self._store.modes())

    async def GetPolicy(
        self, request: controller_pb2.GetPolicyRequest, _: Any
    ) -> controller_pb2.GetPolicyResponse:
        """Return one version with its parameters."""
        live = await self._store.live_version()
        version = await self._store.version(request.version or live)
        return wire.policy(version, live)

    async def PromotePolicy(
        self, request: controller_pb2.PromotePolicyRequest, _: Any
    ) -> controller_pb2.PromotePolicyResponse:
        """Make the parameters of a stored version live."""
        published = await administration.promote(
            self._store, self._room.clock, request.version, request.expected_live_version
        )
        return controller_pb2.PromotePolicyResponse(policy=wire.summary(published))

    async def RollbackPolicy(
        self, request: controller_pb2.RollbackPolicyRequest, _: Any
    ) -> controller_pb2.RollbackPolicyResponse:
        """Go back one version."""
        published = await administration.roll_back(
            self._store, self._room.clock, request.expected_live_version
        )
        return controller_pb2.RollbackPolicyResponse(policy=wire.summary(published))

    async def SetMode(
        self, request: controller_pb2.SetModeRequest, _: Any
    ) -> controller_pb2.SetModeResponse:
        """Set how far the policy is trusted on a route."""
        route, mode = wire.route(request.route), wire.mode(request.mode, "mode")
        await self._store.set_mode(route, mode)
        modes = await self._store.modes()
        self._room.serving.swap_modes(modes)
        return controller_pb2.SetModeResponse(modes=wire.modes(modes))

    async def StartRollout(
        self, request: controller_pb2.StartRolloutRequest, _: Any
    ) -> controller_pb2.StartRolloutResponse:
        """Put a version on trial."""
        started = await administration.start_rollout(
            self._store, self._room.clock, rollout.wanted(request)
        )
        await self._room.watcher.refresh()
        return controller_pb2.StartRolloutResponse(rollout=rollout.rollout(started))

    async def GetRollout(
        self, _request: controller_pb2.GetRolloutRequest, _: Any
    ) -> controller_pb2.GetRolloutResponse:
        """Return the newest trial."""
        newest = await administration.newest_rollout(self._store)
        return controller_pb2.GetRolloutResponse(rollout=rollout.rollout(newest))

    async def StopRollout(
        self, _request: controller_pb2.StopRolloutRequest, _: Any
    ) -> controller_pb2.StopRolloutResponse:
        """End the running trial."""
        stopped = await administration.stop_rollout(self._store)
        await self._room.watcher.refresh()
        return controller_pb2.StopRolloutResponse(rollout=rollout.rollout(stopped))

    async def ImportPolicy(
        self, request: controller_pb2.ImportPolicyRequest, _: Any
    ) -> controller_pb2.ImportPolicyResponse:
        """Store parameters from elsewhere."""
        stored = await self._store.import_version(
            rollout.parameters(request), request.feedback_count, self._room.clock.unix_ms()
        )
        return controller_pb2.ImportPolicyResponse(policy=wire.summary(stored, live=0))
