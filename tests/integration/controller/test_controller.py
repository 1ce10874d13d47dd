"""The controller over real gRPC, its state in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json

import numpy as np
import pytest

from services.controller import room as rooms
from services.controller.__main__ import grpc_server
from services.controller.config import Config
from services.controller.learner import drain
from services.controller.room import furnish
from thermesh import errors, rpc
from thermesh.clock import SystemClock
from thermesh.testing import eventually
from thermesh.v1 import common_pb2, controller_pb2, controller_pb2_grpc, feedback_pb2


def steering(**telemetry):
    """A report on one running request."""
    sequence = {"request_id": "r1", "token_count": 64, "mean_entropy": 2.0, **telemetry}
    return controller_pb2.SteerRequest(report={"sequences": [sequence]})


HELLO = controller_pb2.SteerRequest(hello={"replica_id": "i-1", "model": "m"})


async def hello_then_silence():
    """What a replica says that decodes nothing."""
    yield HELLO
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def steer(client):
    """An open steering stream."""
    call = client.controller.Steer()
    try:
        yield call
    finally:
        call.cancel()


@pytest.mark.parametrize("by_trunk", [False, True], ids=["plain", "trunk"])
async def test_a_controller_that_stops_waits_for_no_steering_stream(store, by_trunk):
    """Streams of `Steer` end as it drains, well before its grace, and tell no failure."""
    config = Config(port=0, grace_seconds=600)
    room = furnish(config, store, SystemClock(), lambda _: None, np.random.default_rng(2))
    server = grpc_server(room)
    port = await server.start()
    async with rpc.connect(f"127.0.0.1:{port}", by_trunk=by_trunk) as channel:
        channel.open_trunk()
        await eventually(lambda: channel.has_trunk is by_trunk)
        call = controller_pb2_grpc.ControllerServiceStub(channel).Steer(hello_then_silence())
        assert (await anext(aiter(call))).HasField("welcome")

        async with asyncio.timeout(60):
            await server.drain()
            assert [message async for message in call] == []


async def test_decide_answers_with_a_whole_plan(client):
    """Every member that inference and learning need is set."""
    plan = await client.decide(route="/v1/chat/completions", model="m")

    assert plan.policy_version == 1
    assert plan.source == common_pb2.PLAN_SOURCE_POLICY
    assert plan.explored
    assert plan.scenario == "dialogue"
    assert plan.sampling.program.fixed.temperature == plan.policy_temperature
    assert plan.sampling.guard.top_n_sigma == 1.0
    assert plan.token_budget > 0
    assert plan.compute_path == common_pb2.COMPUTE_PATH_STANDARD
    assert plan.seed > 0


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"constraints": {"temperature": 5.0}}, "constraints.temperature"),
        ({"constraints": {"scenario": "poetry"}}, "constraints.scenario"),
        ({"constraints": {"guard": {"top_p": 7.0}}}, "constraints.guard.top_p"),
        ({"features": {"schema_version": 99}}, "features.schema_version"),
        ({"features": {"schema_version": 1, "values": [0.1]}}, "features.values"),
        ({"context": {"request_id": "a b"}}, "context.request_id"),
        ({"context": {"deadline_unix_ms": -1}}, "context.deadline_unix_ms"),
        ({"model": "m" * 257}, "model"),
        ({"route": "/" * 129}, "route"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_bad_input_is_refused_and_harms_nothing(client, members, field):
    """INVALID_ARGUMENT names the field, and the next call is answered."""
    with pytest.raises(errors.InvalidArgument) as raised:
        await client.decide(**members)

    assert raised.value.field == field
    assert (await client.decide()).decision_id


@pytest.mark.parametrize("temperature", [0.0, 0.55, 1.7])
async def test_a_pinned_temperature_is_exact(client, temperature):
    """Also on the wire."""
    plan = await client.decide(constraints={"temperature": temperature})

    assert plan.sampling.program.fixed.temperature == temperature
    assert plan.source == common_pb2.PLAN_SOURCE_PINNED


async def test_modes_change_what_decodes(client):
    """By route, by request, and back."""

    async def source(**members):
        plan = await client.decide(route="/a", **members)
        return common_pb2.PlanSource.Name(plan.source)

    async def set_mode(mode, route="/a"):
        request = controller_pb2.SetModeRequest(route=route, mode=mode)
        with rpc.translated():
            return await client.controller.SetMode(request, timeout=30)

    before = await source()
    answer = await set_mode("MODE_OBSERVE")
    observed = await source()
    overridden = await source(constraints={"mode": "MODE_APPLY"})
    listed = (await client.policies()).modes
    await set_mode("MODE_UNSPECIFIED")
    after = await source()

    assert before == overridden == after == "PLAN_SOURCE_POLICY"
    assert observed == "PLAN_SOURCE_STATIC"
    assert dict(answer.modes) == dict(listed) == {"/a": common_pb2.MODE_OBSERVE}
    with pytest.raises(errors.InvalidArgument) as raised:
        await set_mode("MODE_APPLY", route="a")
    assert raised.value.field == "route"


async def test_feedback_waits_for_its_outcome_and_is_applied_once(client, store, clock):
    """Pending, then applied in a version that the next decision carries."""
    plan = await client.decide()
    first = await client.judge(plan, "f1")
    drain(store, clock)
    waiting = await client.applied("f1")
    await client.end(plan)
    drain(store, clock)
    second = await client.judge(plan, "f1")

    async def decides_by_it():
        return (await client.decide()).policy_version == 2

    await eventually(decides_by_it)
    assert (first.duplicate, first.state) == (False, feedback_pb2.FEEDBACK_STATE_PENDING)
    assert waiting == 0
    assert (second.duplicate, second.applied_version) == (True, 2)
    assert second.state == feedback_pb2.FEEDBACK_STATE_APPLIED


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda client, plan: client.judge(common_pb2.DecodingPlan(), "f"), errors.InvalidArgument),
        (
            lambda client, plan: client.judge(common_pb2.DecodingPlan(decision_id="dec-0"), "f"),
            errors.NotFound,
        ),
        (lambda client, plan: client.judge(plan, "f", score=2.0), errors.InvalidArgument),
        (lambda client, plan: client.applied("never-sent"), errors.NotFound),
        (lambda client, plan: client.end(common_pb2.DecodingPlan()), errors.InvalidArgument),
    ],
)
async def test_bad_feedback_and_outcomes_are_refused(client, act, error):
    """Each with the status of the contract."""
    plan = await client.decide()

    with pytest.raises(error) as raised:
        await act(client, plan)
    assert raised.value.field


async def test_policies_are_listed_read_promoted_and_rolled_back(client):
    """New numbers each time, one of them live, expectations checked."""
    call = client.controller
    promoted = (
        await call.PromotePolicy(
            controller_pb2.PromotePolicyRequest(version=1, expected_live_version=1), timeout=5
        )
    ).policy
    back = (await call.RollbackPolicy(controller_pb2.RollbackPolicyRequest(), timeout=30)).policy
    listed = (await client.policies()).policies
    live = await call.GetPolicy(controller_pb2.GetPolicyRequest(), timeout=30)
    first = await call.GetPolicy(controller_pb2.GetPolicyRequest(version=1), timeout=30)
    page = controller_pb2.ListPoliciesRequest(limit=1, before_version=3)

    assert (promoted.version, promoted.reason, promoted.live) == (2, "promoted", True)
    assert (back.version, back.reason, back.parent_version) == (3, "rolled_back", 1)
    assert [(each.version, each.live) for each in listed] == [(3, True), (2, False), (1, False)]
    assert live.policy == listed[0]
    assert json.loads(live.parameters_json) == json.loads(first.parameters_json)
    assert [p.version for p in (await call.ListPolicies(page, timeout=30)).policies] == [2]
    for request, error in (
        (controller_pb2.PromotePolicyRequest(version=99), errors.NotFound),
        (
            controller_pb2.PromotePolicyRequest(version=1, expected_live_version=1),
            errors.Aborted,
        ),
    ):
        with pytest.raises(error), rpc.translated():
            await call.PromotePolicy(request, timeout=30)


async def test_decisions_go_on_without_the_store(client, store):
    """Decide answers; what must be stored is UNAVAILABLE with a time to try again."""
    plan = await client.decide()
    store.reachable = False
    while_away = await client.decide()
    for call in (client.judge(plan, "f1"), client.judge(while_away, "f2"), client.end(plan)):
        with pytest.raises(errors.Unavailable) as raised:
            await call
        assert raised.value.retry_after
    store.reachable = True

    assert while_away.source == common_pb2.PLAN_SOURCE_POLICY
    assert not (await client.judge(while_away, "f2")).duplicate


async def test_steer_welcomes_and_revises(client):
    """A looping request is revised, one that goes well is not."""
    plan = await client.decide()
    async with steer(client) as call:
        await call.write(HELLO)
        welcome = (await call.read()).welcome
        await call.write(steering(decision_id=plan.decision_id))
        looping = steering(decision_id=plan.decision_id, token_count=96, repetition=0.9)
        await call.write(looping)
        revision = (await asyncio.wait_for(call.read(), 30)).revision
        ended = controller_pb2.SteerRequest(report={"ended": [{"request_id": "r1"}]})
        await call.write(ended)
        await call.done_writing()
        end = await asyncio.wait_for(call.read(), 30)

    assert welcome.report_every_tokens == 16
    assert (revision.request_id, revision.reason) == ("r1", "repetition_loop")
    assert revision.update.update_id == 96
    assert revision.update.program.fixed.temperature > plan.policy_temperature
    assert not end


@pytest.mark.parametrize(
    ("messages", "error"),
    [([steering()], errors.InvalidArgument), ([HELLO, HELLO], errors.FailedPrecondition)],
    ids=["no hello", "two hellos"],
)
async def test_steer_begins_with_one_hello(client, messages, error):
    """The replica speaks first, once."""
    async with steer(client) as call:
        for message in messages:
            await call.write(message)
        with pytest.raises(error):
            await read_all(call)


async def read_all(call):
    """Read a stream to its end or its error."""
    with rpc.translated():
        while await call.read():
            pass


async def test_the_end_waits_for_no_loop_that_lost_its_cancellation(store, monkeypatch):
    """A library may take a cancellation for its own; the room closes all the same."""
    monkeypatch.setattr(rooms, "_LAST_WRITE_SECONDS", 0.05)
    room = rooms.furnish(Config(port=0), store, SystemClock(), print, np.random.default_rng(3))
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def deaf():
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        cancelled.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(room.hints, "run", deaf)
    async with room.running():
        await began.wait()

    assert cancelled.is_set()
