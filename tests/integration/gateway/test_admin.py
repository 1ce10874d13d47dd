"""The operator's routes: what they show, what they change, and for whom."""

from __future__ import annotations

import pytest
from gateway_fakes import bearer, make_key

from thermesh import semconv
from thermesh.errors import Unavailable
from thermesh.testing import eventually, redis_server
from thermesh.v1 import controller_pb2


async def overview(app, **options):
    """The overview as JSON."""
    answer = await app.http.get("/admin/overview", **options)
    assert answer.status_code == 200
    return answer.json()


async def test_the_overview_tells_of_engine_policy_and_rooms(app):
    """Load, versions, modes; no trial where there never was one."""
    seen = await overview(app)
    assert seen["engine"]["running"] == 2
    assert seen["engine"]["kv_pages_total"] == 120
    assert [policy["version"] for policy in seen["policies"]] == [7]
    assert seen["modes"] == {"*": "apply"}
    assert seen["trial"] is None
    assert seen["peers"] == {"feature": "serving", "controller": "serving", "inference": "serving"}
    assert seen["streams"] == []
    assert seen["heat_map"]["cells"] == []


async def test_an_answer_is_counted_with_its_temperature_by_task(app):
    """On the heat map and in the histogram that Grafana draws."""
    await app.chat()
    (cell,) = (await overview(app))["heat_map"]["cells"]
    assert cell["task"] == "question_answering"
    assert sum(cell["counts"]) == cell["counts"][4] == 1
    task = {semconv.TASK: "question_answering"}
    assert app.count(semconv.TEMPERATURE_APPLIED, **task) == 1


async def test_a_stream_under_way_is_shown_until_it_ends(serve):
    """With what is known of it so far."""
    served = await serve()
    served.inference.hangs_after = 2
    body = {"model": "fake-model", "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.aiter_lines()  # held: the call ends with its reader
        while " is" not in await anext(lines):
            continue
        (stream,) = (await overview(served))["streams"]
        assert stream["task"] == "question_answering"
        assert stream["token_count"] == 2
        assert stream["temperature"] == pytest.approx(0.4)

    async def gone():
        return (await overview(served))["streams"] == []

    await eventually(gone, 30, "no streams")


async def test_feedback_is_counted_once(app):
    """Praise and blame by minute; a duplicate is no news."""
    for number, score in ((1, 1), (2, -1), (2, -1)):
        body = {"id": f"fb-{number}", "decision_id": "dec-1", "score": score}
        await app.http.post("/v1/feedback", json=body)
    minutes = (await overview(app))["feedback"]
    assert sum(minute["praised"] for minute in minutes) == 1
    assert sum(minute["blamed"] for minute in minutes) >= 1


async def test_neighbours_that_are_away_leave_gaps(app):
    """The page still comes, with null for what cannot be asked."""
    app.controller.error = Unavailable("away")
    app.inference.refusal = Unavailable("away")
    seen = await overview(app)
    assert seen["engine"] is seen["policies"] is seen["modes"] is seen["trial"] is None


async def test_versions_are_promoted_and_rolled_back(app):
    """The new live version is the answer; a race is told as 409."""
    answer = await app.http.post("/admin/policies/promote", json={"version": 6})
    assert (answer.status_code, answer.json()["version"]) == (200, 8)
    answer = await app.http.post("/admin/policies/rollback", json={"expected_live_version": 7})
    assert answer.json()["reason"] == "rolled_back"
    body = {"version": 6, "expected_live_version": 5}
    answer = await app.http.post("/admin/policies/promote", json=body)
    assert answer.status_code == 409
    assert answer.json()["error"]["param"] == "expected_live_version"
    answer = await app.http.post("/admin/policies/promote", json={"version": 99})
    assert answer.status_code == 404


async def test_modes_are_set_and_removed(app):
    """A route's own mode; null takes it away; others are refused by name."""
    route = "/v1/completions"
    answer = await app.http.post("/admin/modes", json={"route": route, "mode": "observe"})
    assert answer.json()["modes"] == {"*": "apply", route: "observe"}
    answer = await app.http.post("/admin/modes", json={"route": route, "mode": None})
    assert answer.json()["modes"] == {"*": "apply"}
    answer = await app.http.post("/admin/modes", json={"route": route, "mode": "trust"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "mode"


async def test_a_trial_is_shown_and_stopped(app):
    """Its stage and values; where none runs, stopping says so."""
    assert (await app.http.post("/admin/trial/stop", json={})).status_code == 400
    canary = controller_pb2.ROLLOUT_STAGE_CANARY
    app.controller.rollout = controller_pb2.Rollout(number=1, candidate_version=6, stage=canary)
    assert (await overview(app))["trial"]["is_running"] is True
    answer = await app.http.post("/admin/trial/stop", json={})
    assert answer.json()["stage"] == "stopped"


async def test_a_trial_is_started(app):
    """A shadow unless a canary is asked for, with its share; what is wrong is named."""
    answer = await app.http.post("/admin/trial/start", json={"version": 6})
    assert (answer.status_code, answer.json()["stage"]) == (200, "shadow")
    canary = {"version": 6, "stage": "canary", "share": 0.25, "promotes": True}
    answer = await app.http.post("/admin/trial/start", json=canary)
    assert {name: answer.json()[name] for name in ("stage", "share", "promotes", "is_running")} == {
        "stage": "canary",
        "share": 0.25,
        "promotes": True,
        "is_running": True,
    }
    assert (await overview(app))["trial"]["candidate_version"] == 6
    wrong = [
        ({"stage": "promoted"}, "stage"),
        ({"share": 0.6}, "share"),
        ({"version": 7}, "version"),
    ]
    for changes, param in wrong:
        answer = await app.http.post("/admin/trial/start", json=canary | changes)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_where_keys_are_asked_for_only_admins_come_in(serve_app):
    """No key is 401, one without the right 403, for reading and for changing; the page is open."""
    with redis_server() as server:
        guarded = await serve_app(redis_url=server.url, require_keys=True)
        usual = bearer(make_key(server.url, "acme"))
        admin = bearer(make_key(server.url, "acme", admin=True))
        for headers, status in ((None, 401), (usual, 403), (admin, 200)):
            answer = await guarded.http.get("/admin/overview", headers=headers)
            assert answer.status_code == status
            url, body = "/admin/policies/rollback", {"expected_live_version": 0}
            answer = await guarded.http.post(url, json=body, headers=headers)
            assert answer.status_code == status
        assert (await guarded.http.get("/operator")).status_code == 200
