"""Feature and controller may be slow, failing or dead: tokens come, and a counter says so."""

from __future__ import annotations

import pytest

from thermesh.errors import Internal, InvalidArgument, Unavailable
from thermesh.testing import eventually
from thermesh.v1 import common_pb2

FAILURES = "thermesh.hop.failures"


def plan_of(response):
    """The plan of an answer that must have come."""
    assert response.status_code == 200, response.text
    return response.json()["thermesh"]["plan"]


def failures(served, hop, reason):
    """How often a neighbour failed for a reason."""
    return served.count(FAILURES, **{"thermesh.hop": hop, "thermesh.reason": reason})


async def test_the_plan_is_the_second_message(app):
    """Generate opens first; the decision follows as one plan."""
    response = await app.chat()
    call = app.inference.calls[0]

    assert call.kinds[:2] == ["start", "plan"]
    assert call.start.expects_plan
    assert call.received[1].plan.decision_id == plan_of(response)["decision_id"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("no store"), "unavailable"),
        (Internal("a bug"), "internal"),
        (InvalidArgument("schema unknown", field="features"), "invalid_argument"),
    ],
)
async def test_a_failing_controller_costs_the_plan_only(app, error, reason):
    """The default plan decodes, said to be a fallback without a decision id."""
    app.controller.error = error
    plan = plan_of(await app.chat())
    sent = app.inference.calls[0].received[1].plan

    assert (plan["source"], plan["decision_id"], plan["policy_version"]) == ("fallback", "", 0)
    assert sent.source == common_pb2.PLAN_SOURCE_FALLBACK
    assert sent.seed == app.inference.calls[0].start.seed == plan["seed"]
    assert failures(app, "controller", reason) == 1


async def test_a_dead_controller_costs_the_plan_only(app):
    """A process that is gone is the same as one that fails."""
    await app.neighbours.stop("controller")

    assert plan_of(await app.chat())["source"] == "fallback"
    assert failures(app, "controller", "unavailable") == 1


async def test_the_last_good_plan_of_the_scenario_is_used(app):
    """What the policy chose for a scenario decodes the next request of it."""
    app.controller.temperature = 0.85
    await app.chat(thermesh={"scenario": "dialogue"})
    app.controller.error = Unavailable("gone")
    same = plan_of(await app.chat(thermesh={"scenario": "dialogue"}))
    other = plan_of(await app.chat(thermesh={"scenario": "code"}, messages=[turn("x")]))

    assert (same["source"], same["temperature"]) == ("fallback", 0.85)
    assert app.inference.calls[1].start.sampling.program.fixed.temperature == 0.85
    # No plan of its scenario was seen, but one of its task.
    assert other["temperature"] == 0.85
    assert other["task"] == "question_answering"


async def test_a_pinned_temperature_outlives_the_controller(app):
    """The user's own value decodes, and is said to be the user's."""
    app.controller.error = Unavailable("gone")
    plan = plan_of(await app.chat(temperature=0.33))

    assert (plan["source"], plan["temperature"]) == ("pinned", 0.33)


@pytest.mark.parametrize("trouble", ["error", "hangs", "dead"])
async def test_without_features_the_controller_still_decides(serve, trouble):
    """A feature service in trouble means a decision on neutral features."""
    served = await serve(extract_budget_ms=50)
    if trouble == "dead":
        await served.neighbours.stop("feature")
    elif trouble == "hangs":
        served.feature.hangs = True
    else:
        served.feature.error = Internal("a bug")
    plan = plan_of(await served.chat())
    reason = {"error": "internal", "hangs": "deadline_exceeded", "dead": "unavailable"}[trouble]

    assert plan["source"] == "policy"
    assert not served.controller.requests[0].HasField("features")
    assert failures(served, "feature", reason) == 1


async def test_a_hanging_controller_costs_its_budget_once_then_nothing(serve):
    """After a few hanging calls the breaker skips the controller."""
    served = await serve(decide_budget_ms=30)
    served.controller.hangs = True
    sources = [plan_of(await served.chat())["source"] for _ in range(6)]

    assert set(sources) == {"fallback"}
    assert failures(served, "controller", "deadline_exceeded") >= 3
    assert failures(served, "controller", "skipped") >= 1
    assert len(served.controller.requests) < 6


async def test_tokens_that_come_first_settle_the_plan(serve):
    """When the engine is faster than the decision, the plan it started with is the plan."""
    served = await serve(plan_grace_ms=1)
    served.controller.gate.clear()
    plan = plan_of(await served.chat())
    call = served.inference.calls[0]

    assert plan["source"] == "fallback"
    assert plan["temperature"] == call.start.sampling.program.fixed.temperature
    assert failures(served, "controller", "late") == 1


async def test_a_neighbour_that_returns_is_used_again(app):
    """Nobody has to restart the gateway."""
    await app.neighbours.stop("controller")
    away = plan_of(await app.chat())["source"]
    await app.neighbours.start("controller")

    async def decides():
        return plan_of(await app.chat())["source"] == "policy"

    await eventually(decides, 30, "the policy deciding again")

    assert away == "fallback"


def turn(text):
    """A user's turn."""
    return {"role": "user", "content": text}
