"""What goes to the controller and comes back: Steer and outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.inference.service import Service
from thermesh import errors, rpc
from thermesh.testing import eventually, free_port
from thermesh.v1 import common_pb2, controller_pb2, controller_pb2_grpc

from .conftest import Served, fixed, make_service

pytestmark = pytest.mark.timeout(120)
SERVICE = "thermesh.v1.ControllerService"


class Controller(controller_pb2_grpc.ControllerServiceServicer):
    """Keeps what it is told; revises a request when `revisions` says so."""

    def __init__(self) -> None:
        self.hellos: list[controller_pb2.SteerHello] = []
        self.reports: list[controller_pb2.TelemetryReport] = []
        self.outcomes: list[controller_pb2.ReportOutcomeRequest] = []
        self.revisions: list[controller_pb2.SequenceRevision] = []
        self.refuses_outcomes: errors.MeshError | None = None
        self.report_every_tokens = 4

    async def Steer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        messages = aiter(requests)
        self.hellos.append((await anext(messages)).hello)
        welcome = controller_pb2.SteerWelcome(report_every_tokens=self.report_every_tokens)
        yield controller_pb2.SteerResponse(welcome=welcome)
        async for message in messages:
            self.reports.append(message.report)
            if message.report.sequences:
                for revision in self.revisions:
                    yield controller_pb2.SteerResponse(revision=revision)

    async def ReportOutcome(self, request: Any, context: Any) -> Any:
        if self.refuses_outcomes:
            raise self.refuses_outcomes
        self.outcomes.append(request)
        return controller_pb2.ReportOutcomeResponse()


class Mesh:
    """A replica and a controller that can be stopped and started again."""

    def __init__(self, served: Served, service: Service, port: int) -> None:
        self.served = served
        self.service = service
        self.controller = Controller()
        self._port = port
        self._server: rpc.Server | None = None

    async def start_controller(self) -> None:
        """Serve the controller on its port."""
        self._server = rpc.Server("controller", "127.0.0.1", self._port, grace_seconds=0.0)
        adder = controller_pb2_grpc.add_ControllerServiceServicer_to_server
        self._server.add(adder, self.controller, SERVICE)
        await self._server.start()

    async def stop_controller(self) -> None:
        """Take the controller away."""
        if self._server:
            await self._server.drain()
            self._server = None


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    """A replica whose controller is not up yet."""
    port = free_port()
    service, model = make_service(port, load_interval_seconds=0.05)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    mesh = Mesh(Served(service, model, channel), service, port)
    yield mesh
    await channel.close()
    await service.stop()
    await mesh.stop_controller()


def plan(decision_id: str = "dec-1", temperature: float = 0.5) -> common_pb2.DecodingPlan:
    sampling = common_pb2.Sampling(program=fixed(temperature))
    return common_pb2.DecodingPlan(decision_id=decision_id, sampling=sampling, seed=3)


async def decode(mesh: Mesh, request_id: str, **start: Any) -> Any:
    call = await mesh.served.open(
        context=common_pb2.RequestContext(request_id=request_id, tenant="acme"),
        expects_plan=True,
        plan_grace_ms=1000,
        **start,
    )
    await call.say(plan=plan(f"dec-{request_id}"))
    return call


async def test_telemetry_load_and_end_reach_the_controller(mesh: Mesh) -> None:
    """Hello names the replica; reports name the decision; the end is told."""
    await mesh.start_controller()
    await eventually(lambda: mesh.service.steering.is_connected)
    call = await decode(mesh, "r1", max_tokens=40, initial_credit=20)
    await call.hear_tokens(20)
    reports = mesh.controller.reports
    await eventually(lambda: any(report.sequences for report in reports))
    sequence = next(report for report in reports if report.sequences).sequences[0]
    assert (sequence.request_id, sequence.decision_id) == ("r1", "dec-r1")
    assert sequence.token_count % 4 == 0
    assert sequence.temperature == pytest.approx(0.5)
    assert sequence.mean_entropy > 0
    await call.say(credit=common_pb2.Credit(tokens=20))
    await call.hear_all()
    await eventually(lambda: any(report.ended for report in reports))
    assert reports[-1].load.kv_pages_total == 512
    assert mesh.controller.hellos[0].replica_id == "replica-1"


async def test_a_revision_is_applied_and_acknowledged(mesh: Mesh) -> None:
    """The controller's change reaches the running request and its client hears of it."""
    update = common_pb2.ParameterUpdate(update_id=1, program=fixed(0.25))
    mesh.controller.revisions = [
        controller_pb2.SequenceRevision(request_id="r1", update=update),
        controller_pb2.SequenceRevision(request_id="unknown", update=update),
        controller_pb2.SequenceRevision(request_id="r1"),
    ]
    await mesh.start_controller()
    await eventually(lambda: mesh.service.steering.is_connected)
    call = await decode(mesh, "r1", max_tokens=60, initial_credit=8)
    while len(call.of("applied")) < 2:
        await call.hear()
    await call.say(credit=common_pb2.Credit(tokens=52))
    await call.hear_all()
    applied = call.of("applied")[1]
    assert applied.source == common_pb2.UPDATE_SOURCE_CONTROLLER
    changed = [token.index for token in call.tokens if token.temperature == 0.25]
    assert changed == list(range(applied.token_index, 60))


async def test_the_outcome_is_reported_once_decoding_ended(mesh: Mesh) -> None:
    """It carries the decision, the reason, usage and the whole temperature trace."""
    await mesh.start_controller()
    call = await decode(mesh, "r1", max_tokens=6)
    await call.hear_all()
    await eventually(lambda: bool(mesh.controller.outcomes))
    [outcome] = mesh.controller.outcomes
    assert (outcome.decision_id, outcome.context.tenant) == ("dec-r1", "acme")
    assert outcome.finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert outcome.usage.completion_tokens == 6
    assert list(outcome.temperatures) == [0.5] * 6
    assert outcome.mean_log_probability < 0 < outcome.prefill_entropy


async def test_a_request_without_decision_has_no_outcome(mesh: Mesh) -> None:
    """Nothing can be learned about it, so nothing is reported."""
    await mesh.start_controller()
    call = await mesh.served.open()
    await call.hear_all()
    await (await decode(mesh, "r2", max_tokens=1)).hear_all()
    await eventually(lambda: bool(mesh.controller.outcomes))
    assert [outcome.decision_id for outcome in mesh.controller.outcomes] == ["dec-r2"]


async def test_decoding_goes_on_without_controller_and_nothing_is_lost(mesh: Mesh) -> None:
    """Streams finish while it is away; later outcomes arrive and Steer is back."""
    for name in ("r1", "r2", "r3"):
        call = await decode(mesh, name, max_tokens=20)
        await call.hear_all()
        assert len(call.tokens) == 20
    assert mesh.service.outcomes.pending == 3
    await mesh.start_controller()
    await eventually(lambda: len(mesh.controller.outcomes) == 3, 30)
    await eventually(lambda: mesh.service.steering.is_connected, 30)
    assert [one.decision_id for one in mesh.controller.outcomes] == ["dec-r1", "dec-r2", "dec-r3"]
    await mesh.stop_controller()
    await eventually(lambda: not mesh.service.steering.is_connected)
    call = await decode(mesh, "r4", max_tokens=20)
    await call.hear_all()
    assert len(call.tokens) == 20
    await mesh.start_controller()
    await eventually(lambda: len(mesh.controller.outcomes) == 4, 30)
    await eventually(lambda: mesh.service.steering.is_connected, 30)
    assert mesh.service.outcomes.lost == 0


async def test_a_refused_outcome_is_dropped_and_counted(mesh: Mesh) -> None:
    """An outcome the controller finds invalid does not hold up the others."""
    mesh.controller.refuses_outcomes = errors.InvalidArgument("no", field="decision_id")
    await mesh.start_controller()
    await (await decode(mesh, "r1", max_tokens=1)).hear_all()
    await eventually(lambda: mesh.service.outcomes.lost == 1)
    mesh.controller.refuses_outcomes = None
    await (await decode(mesh, "r2", max_tokens=1)).hear_all()
    await eventually(lambda: len(mesh.controller.outcomes) == 1)
