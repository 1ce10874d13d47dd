"""The sequential test of a canary, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from services.controller.trust.canary import BOUNDARY, LEAST_CONTROL, Arms, Canary
from services.controller.trust.promotion import Verdict

NOISY, QUIET = 0, 3
DEVIATIONS = {NOISY: 0.5, QUIET: 0.15}


def run(seed, drops, control=4000):
    """One canary against a control that was seen before, as at a share of 10 %; two tasks,
    equally often.
    """
    generator, tasks = np.random.default_rng(seed), [Arms()] * 8
    for task, deviation in DEVIATIONS.items():
        before = generator.normal(0.5, deviation, control // len(DEVIATIONS))
        tasks[task] = Arms(len(before), float(before.mean()), float(before.var() * len(before)))
    canary = Canary(tuple(tasks))
    while canary.verdict is Verdict.HOLD:
        task = (NOISY, QUIET)[int(generator.integers(2))]
        reward = generator.normal(0.5 - drops.get(task, 0.0), DEVIATIONS[task])
        canary = canary.canary_earned(task, float(reward))
    return canary


def share_rolled_back(drops, runs=120):
    """How many of `runs` canaries end by the test."""
    canaries = [run(seed, drops) for seed in range(runs)]
    assert max(each.seen for each in canaries) <= 500
    return np.mean([each.verdict is Verdict.ROLL_BACK for each in canaries])


def test_the_control_is_counted_as_it_comes():
    """Mean and variance are those of all rewards of a task, and each task has its own."""
    rewards, canary = np.random.default_rng(2).normal(0.3, 0.2, 100), Canary()
    for index, reward in enumerate(rewards):
        canary = canary.control_earned(index % 2, float(reward))

    assert canary.control == 100
    assert canary.mean == pytest.approx(rewards.mean())
    assert canary.tasks[1].mean == pytest.approx(rewards[1::2].mean())
    assert canary.tasks[1].squares == pytest.approx(rewards[1::2].var() * 50)


@pytest.mark.slow
def test_without_change_a_canary_is_hardly_ever_rolled_back():
    """At most 5 %."""
    assert share_rolled_back({}) <= 0.05


def test_a_drop_everywhere_is_found_by_the_quiet_task():
    """A drop of 0.05 at a standard deviation of 0.37 over all, in at least 95 %."""
    assert share_rolled_back(dict.fromkeys(DEVIATIONS, 0.05)) >= 0.95


def test_a_drop_in_the_noisy_task_alone_is_not_overlooked():
    """The plain sum of rewards finds it: 0.2 there, 0.1 over all."""
    assert share_rolled_back({NOISY: 0.2}) >= 0.95


def test_a_large_drop_is_found_at_once():
    """A candidate that answers nonsense is gone after some requests."""
    assert max(run(seed, dict.fromkeys(DEVIATIONS, 0.5)).seen for seed in range(20)) <= 80


def test_rewards_before_the_control_has_some_are_not_lost():
    """They count as soon as there is something to compare them with."""
    canary = Canary()
    for _ in range(200):
        canary = canary.canary_earned(QUIET, -1.0)
    assert (canary.verdict, canary.crossed) == (Verdict.HOLD, 0.0)
    for index in range(LEAST_CONTROL):
        canary = canary.control_earned(QUIET, 1.0 + 0.1 * (index % 2))
    assert canary.crossed > BOUNDARY / 4
    assert canary.canary_earned(QUIET, -1.0).seen == 201


def test_one_bad_answer_is_no_proof_where_all_were_perfect():
    """A task without any variance takes a tenth of that of all."""
    canary = Canary()
    for index in range(200):
        canary = canary.control_earned(QUIET, 1.0).control_earned(NOISY, float(index % 2))
    for _ in range(3):
        canary = canary.canary_earned(QUIET, 0.0)
    assert canary.verdict is Verdict.HOLD


def test_a_verdict_stays():
    """What comes later changes nothing."""
    decided = run(1, dict.fromkeys(DEVIATIONS, 0.3))
    assert decided.verdict is Verdict.ROLL_BACK
    assert decided.canary_earned(QUIET, 100.0) is decided


def test_a_canary_reads_back():
    """Whatever its verdict."""
    decided = run(1, dict.fromkeys(DEVIATIONS, 0.3))
    assert Canary.from_dict(decided.to_dict()) == decided
