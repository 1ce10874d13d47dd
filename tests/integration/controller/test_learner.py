"""Controller, real Redis and a real Celery worker, killed and started again."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import uuid

import pytest
import redis as redis_client

from services.controller.decisions.records import Feedback, LoggedDecision, Outcome
from services.controller.learning.joining import FeedbackArrived, OutcomeArrived, fold
from services.controller.learning.lesson import LearnerState
from services.controller.policies.policy import prior
from services.controller.storage.learning_store import RedisLearningStore
from thermesh import errors
from thermesh.features import INDEX, SCHEMA_VERSION, TASKS
from thermesh.testing import eventually


async def applied(client, feedback_id, timeout=60):
    """The version that learned from it, as soon as there is one."""
    await eventually(lambda: client.applied(feedback_id), timeout, f"{feedback_id} applied")
    return await client.applied(feedback_id)


async def retried(call, timeout=60):
    """The answer of `call`, tried again while the store is away."""
    answers = []

    async def tried():
        try:
            answers.append(await call())
        except errors.Unavailable:
            return False
        return True

    await eventually(tried, timeout, "an answer")
    return answers[0]


@pytest.mark.slow
async def test_feedback_sent_twice_changes_the_policy_once(processes):
    """Through Celery: one id, one new version, and the next decision carries it."""
    processes.start("controller")
    processes.start("learner")
    await processes.serving()
    trace_id = uuid.uuid4().hex
    context = {"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"}
    async with processes.client() as client:
        plan = await client.decide(context=context)
        answers = [await client.judge(plan, "f1") for _ in range(2)]
        await client.end(plan)
        version = await applied(client, "f1")
        third = await client.judge(plan, "f1")
        with pytest.raises(errors.AlreadyExists):
            await client.judge(plan, "f1", score=-1.0)

        async def decides_by_it():
            return (await client.decide()).policy_version == version

        await eventually(decides_by_it, 30, "the new version deciding")
        policies = (await client.policies()).policies

    assert [answer.duplicate for answer in answers] == [False, True]
    assert third.applied_version == version == 2
    assert [(each.version, each.feedback_count) for each in policies] == [(2, 1), (1, 0)]
    await eventually(lambda: "learner.apply" in processes.trace_file.read_text(), 30, "a span")
    spans = map(json.loads, processes.trace_file.read_text().splitlines())
    learned = [span for span in spans if span["name"] == "learner.apply"]
    assert [span["context"]["trace_id"] for span in learned] == [f"0x{trace_id}"]
    assert learned[0]["resource"]["attributes"]["service.name"] == "thermesh-learner"
    assert processes.stop("learner", signal.SIGTERM) == 0
    assert processes.stop("controller", signal.SIGTERM) == 0


async def test_the_controller_starts_and_decides_without_redis(processes, redis):
    """It answers by the packaged prior, and heals when Redis comes."""
    redis.stop()
    processes.start("controller")
    await processes.serving()
    async with processes.client() as client:
        plan = await client.decide()
        with pytest.raises(errors.Unavailable):
            await client.judge(plan, "f1")
        redis.start()
        answer = await retried(lambda: client.judge(plan, "f1"))

        async def versions():
            listed = (await client.policies()).policies
            return [(each.version, each.reason) for each in listed] == [(1, "prior")]

        await eventually(versions, 30, "the prior published")

    assert plan.policy_version == 1
    assert plan.explored
    assert not answer.duplicate


@pytest.mark.slow
async def test_decide_answers_while_redis_hangs(processes, redis):
    """A Redis that accepts and never answers slows no decision; then it heals."""
    processes.start("controller")
    await processes.serving()
    async with processes.client() as client:
        before = await client.decide()
        redis.pause()
        try:
            for _ in range(50):
                await asyncio.wait_for(client.decide(), 30)
            with pytest.raises(errors.Unavailable):
                await client.judge(before, "f1")
        finally:
            redis.resume()
        answer = await retried(lambda: client.judge(before, "f1"))

    assert answer.state


@pytest.mark.slow
async def test_a_crash_of_redis_loses_nothing_accepted(processes, redis):
    """Decisions, outcomes and feedback outlive it; learner and controller heal."""
    processes.start("controller")
    processes.start("learner")
    await processes.serving()
    async with processes.client() as client:
        plans = [await client.decide() for _ in range(6)]
        for index, plan in enumerate(plans[:3]):
            await client.judge(plan, f"f{index}")
            await client.end(plan)
        await applied(client, "f0")
        redis.stop()
        while_away = await client.decide()
        redis.start()
        for index, plan in enumerate([*plans[3:], while_away], start=3):
            await retried(lambda plan=plan, index=index: client.judge(plan, f"f{index}"))
            await retried(lambda plan=plan: client.end(plan))
        versions = [await applied(client, f"f{index}", 30) for index in range(7)]
        listed = (await client.policies()).policies

    assert versions == sorted(versions)
    assert listed[0].feedback_count == 7


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_kill_9_of_the_learner_at_any_point_counts_everything_once(processes, redis):
    """200 pieces of feedback with duplicates, five kills: the state is bit-equal to one
    delivery of each in order, folded without store, worker or crash."""
    dice = random.Random(7)
    processes.start("controller")
    processes.start("learner")
    await processes.serving()
    sent = []
    async with processes.client() as client:
        plans = [await client.decide(features=features(dice)) for _ in range(200)]
        # the learner is at work when it is killed, a few events further each time
        checks = {20: 23, 55: 56, 90: 97, 125: 130, 160: 162}
        for index, plan in enumerate(plans):
            steps = [("feedback", index, dice.uniform(-1, 1)), ("outcome", index, 0)]
            dice.shuffle(steps)
            for kind, _, score in steps:
                for _ in range(dice.choice((1, 1, 2, 3))):
                    if kind == "feedback":
                        await client.judge(plan, f"f{index}", score)
                    else:
                        await client.end(plan, milliseconds=10 * index)
            sent += steps
            if index in checks:
                await applied(client, f"f{index}")
            if index in checks.values():
                processes.stop("learner")
                processes.start("learner")
        for index in range(len(plans)):
            await applied(client, f"f{index}", 30)
        listed = (await client.policies()).policies
    learning = RedisLearningStore(redis.url)
    checkpoint = learning.checkpoint()
    learning._redis.close()
    expected = folded_once(redis, plans, sent)

    assert listed[0].feedback_count == 200
    assert checkpoint.state == expected.state
    assert checkpoint.entry_count == expected.entry_count == 200


def features(dice):
    """Features of a request of a random kind."""
    task = dice.randrange(len(TASKS))
    values = [0.3] * len(INDEX)
    values[INDEX[f"task_{TASKS[task]}"]] = 0.9
    return {"schema_version": SCHEMA_VERSION, "values": values, "task": task + 1}


def folded_once(redis, plans, sent):
    """The state after one delivery of everything, in order."""
    with redis_client.Redis.from_url(redis.url, decode_responses=True) as client:
        keys = [f"thermesh:{{policy}}:decision:{plan.decision_id}" for plan in plans]
        records = [LoggedDecision.from_json(client.hget(key, "record")) for key in keys]
    arrivals = []
    for kind, index, score in sent:
        decision = records[index]
        if kind == "feedback":
            feedback = Feedback("default", f"f{index}", decision.decision_id, score)
            arrivals.append(FeedbackArrived(feedback, decision))
        else:
            outcome = Outcome(decision.decision_id, "stop", 0, 5, 0, 0, 10_000 * index)
            arrivals.append(OutcomeArrived(outcome))
    return fold(LearnerState(prior()), 0, {}, arrivals)
