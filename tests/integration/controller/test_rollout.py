"""A candidate beside the live policy, over real gRPC and through the real learner."""

from __future__ import annotations

import argparse
import json
import random

import pytest

from services.controller.config import PolicyConfig
from services.controller.newborn import newborn
from services.controller.policies import gaussian
from thermesh import errors
from thermesh.cli import policy
from thermesh.testing import eventually

SHADOW, CANARY, ROLLED_BACK, STOPPED = 1, 2, 4, 5
PARAMETERS = json.dumps(gaussian.prior().to_lists())
GRID = json.dumps(newborn(PolicyConfig()).to_lists())


async def test_a_canary_decides_some_sessions_until_it_is_stopped(client):
    """Its plans carry its version; the same session always gets the same one."""
    version = await client.imported("squashed_gaussian", PARAMETERS)
    begun = await client.tried(version, stage=CANARY, share=0.5)
    sessions = [{"session_id": f"s{index}"} for index in range(40)]
    plans = [[await client.decide(context=each) for each in sessions] for _ in range(2)]
    first, second = ([plan.policy_version for plan in each] for each in plans)
    ended = await client.stopped()
    after = {(await client.decide(context=each)).policy_version for each in sessions}

    assert (begun.stage, begun.candidate_version, begun.share) == (CANARY, version, 0.5)
    assert first == second
    assert set(first) == {1, version}
    assert ended.stage == (await client.trial()).stage == STOPPED
    assert after == {1}


async def test_requests_without_a_name_are_split_too(client):
    """Each by itself, not all to one side."""
    version = await client.imported("squashed_gaussian", PARAMETERS)
    await client.tried(version, stage=CANARY, share=0.5)
    assert {(await client.decide()).policy_version for _ in range(40)} == {1, version}


async def test_a_shadow_decides_nothing(client, store):
    """What it would do is written down."""
    version = await client.imported("thompson", GRID)
    await client.tried(version, stage=SHADOW)
    plans = [await client.decide() for _ in range(20)]
    await eventually(lambda: len(store._decisions) == 20)
    trials = [json.loads(text)["trial"] for _, text in store._decisions.values()]

    assert {plan.policy_version for plan in plans} == {1}
    assert not any(each["by_candidate"] for each in trials)
    assert [each["weight"] for each in trials] == pytest.approx([1.0] * 20)
    assert all(0.1 <= each["candidate_temperature"] <= 2.0 for each in trials)


@pytest.mark.parametrize(
    ("members", "field"),
    [({}, "stage"), ({"stage": 3}, "stage"), ({"stage": 2, "share": 0.9}, "share")],
)
async def test_a_trial_that_makes_no_sense_is_refused(client, members, field):
    """With the field named."""
    with pytest.raises(errors.InvalidArgument) as raised:
        await client.tried(1, **members)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("kind", "text"),
    [("other", PARAMETERS), ("squashed_gaussian", "{}"), ("thompson", "["), ("thompson", "3")],
)
async def test_what_is_no_policy_is_not_imported(client, kind, text):
    """Nothing of the reason leaks but what is wanted."""
    with pytest.raises(errors.InvalidArgument):
        await client.imported(kind, text)


async def test_a_version_goes_out_as_a_file_and_comes_back_the_same(client, tmp_path, capsys):
    """Export, import and diff of `thermesh policy`, against a real controller."""
    path, controller = tmp_path / "policy.json", client.controller
    await policy.export(controller, argparse.Namespace(version=0, file=path))
    await policy.import_file(controller, argparse.Namespace(file=path))
    listed = (await client.policies()).policies
    sides = argparse.Namespace(before="1", after=str(listed[-1].version), json=True)
    capsys.readouterr()
    await policy.diff(controller, sides)
    found = json.loads(capsys.readouterr().out)

    assert [each.reason for each in listed] == ["prior", "imported"]
    assert [each.live for each in listed] == [True, False]
    assert {each["changed"] for each in found["parameters"].values()} == {0}
    assert found["policies"]["reason"] == ["prior", "imported"]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_drop_ends_the_canary_though_everything_is_killed_meanwhile(processes):
    """A candidate that earns 0.05 of the reward's range less is gone within 500 of its
    requests, and the sessions it had are the live policy's again."""
    dice, requests = random.Random(3), 0
    processes.start("controller")
    processes.start("learner")
    await processes.serving()
    async with processes.client() as client:
        version = await client.imported("squashed_gaussian", PARAMETERS)
        await client.tried(version, stage=CANARY, share=0.5)
        for index in range(1000):
            plan = await client.decide(context={"session_id": f"s{index}"})
            mine = plan.policy_version == version
            requests += mine
            score = min(1.0, max(-1.0, dice.gauss(0.5 - 0.1 * mine, 0.15)))
            await client.judge(plan, f"f{index}", score)
            await client.end(plan, milliseconds=0)
            if index == 60:
                processes.stop("learner")
                processes.stop("controller")
                processes.start("controller")
                processes.start("learner")
                await processes.serving()
            if index % 20 == 19:
                await eventually(lambda at=index: client.applied(f"f{at}"), 30, "applied")
                if (trial := await client.trial()).stage == ROLLED_BACK:
                    break

        async def all_live():
            plans = [
                await client.decide(context={"session_id": f"s{index}"}) for index in range(20)
            ]
            return version not in {plan.policy_version for plan in plans}

        await eventually(all_live, 30, "the live policy deciding everything")

    assert trial.stage == ROLLED_BACK
    assert requests <= 500
    assert trial.candidate_upper < trial.live_value + 0.1
