"""A candidate on trial: which sessions it decides, what is logged, and how the trial ends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from services.controller import administration
from services.controller.administration import Wanted
from services.controller.decisions.decision import Constraints, Mode, Trial, decide
from services.controller.decisions.experience import Experience
from services.controller.decisions.records import (
    Context,
    DecisionRecord,
    LoggedDecision,
    prior_version,
)
from services.controller.learning import lesson as learning
from services.controller.learning.lesson import LearnerState
from services.controller.policies import bandit
from services.controller.policies.policy import PolicySnapshot
from services.controller.storage.memory_store import MemoryStore
from services.controller.trust.canary import HORIZON
from services.controller.trust.evaluation import snips
from services.controller.trust.rollout import Evidence, Rollout, Stage
from services.controller.trust.trial import Candidate
from thermesh import errors

GRID = bandit.grid((0.2, 0.5, 0.8, 1.1))


def learned(seed, count=60):
    """A bandit that learned something from chance."""
    generator, beliefs = np.random.default_rng(seed), bandit.prior(GRID)
    for _ in range(count):
        action = GRID[int(generator.integers(len(GRID)))]
        beliefs = bandit.updated(beliefs, 6, action, float(generator.normal(0.3, 0.3)))
    return beliefs


LIVE, TRIED = PolicySnapshot(9, learned(1), 60), PolicySnapshot(4, learned(2), 60)


def on_trial(stage=Stage.CANARY, share=0.3, **members):
    """A trial of version 4."""
    return Candidate(Rollout(3, 4, stage, share, **members), TRIED)


def decided(maker, trial, key, generator):
    """One decision under a trial."""
    snapshot = trial.chosen(key, LIVE)
    seen = maker.observed("chat")
    decision = decide(snapshot, seen, Constraints(), Mode.APPLY, generator)
    return trial.noted(decision, LIVE, generator)


def test_a_canary_decides_its_share_of_sessions_and_always_the_same_ones(maker):
    """A plan says by its version who decided it."""
    generator, trial = np.random.default_rng(1), on_trial()
    first, second = (
        [decided(maker, trial, f"s{index}", generator).policy_version for index in range(2000)]
        for _ in range(2)
    )
    assert first == second
    assert first.count(4) / len(first) == pytest.approx(0.3, abs=0.04)


def test_a_shadow_decides_nothing_and_is_logged(maker):
    """What the candidate would have drawn stands in the record beside its weight."""
    generator, trial = np.random.default_rng(1), on_trial(Stage.SHADOW)
    decision = decided(maker, trial, "s", generator)
    record = DecisionRecord(decision, Context(), "m", "/", 1)
    logged = LoggedDecision.from_json(record.to_json())

    assert decision.policy_version == 9
    assert not decision.trial.by_candidate
    assert decision.trial.candidate_temperature in {action.temperature for action in GRID}
    assert logged.trial == decision.trial
    assert LoggedDecision.from_json(logged.to_json()) == logged


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.CANARY])
def test_weights_of_both_arms_average_one_and_find_the_candidates_value(maker, stage):
    """SNIPS over all decisions is the mean reward that the candidate earns alone."""
    generator, trial, evidence, weights = np.random.default_rng(3), on_trial(stage), Evidence(), []
    earns = {0.2: 0.1, 0.5: 0.6, 0.8: 0.3, 1.1: -0.5}
    for index in range(4000):
        decision = decided(maker, trial, f"s{index}", generator)
        weights.append(decision.trial.weight)
        reward = earns[decision.action.temperature] + float(generator.normal(0, 0.1))
        evidence = evidence.earned(decision.trial.weight, reward, decision.trial.agreed)
    envelope = decision.envelope
    allowed = bandit.allowed_within(GRID, envelope.lower, envelope.upper)
    chances = bandit.probabilities(TRIED.parameters, 6, allowed)
    truth = float(sum(p * earns[a.temperature] for p, a in zip(chances, GRID, strict=True)))

    assert np.mean(weights) == pytest.approx(1.0, abs=4 * np.std(weights) / 4000**0.5)
    assert evidence.estimate.lower < truth < evidence.estimate.upper


def test_what_the_user_pinned_takes_no_part(maker):
    """It says nothing of either policy."""
    generator, trial = np.random.default_rng(1), on_trial()
    seen = maker.observed("chat")
    pinned = decide(LIVE, seen, Constraints(temperature=0.4), Mode.APPLY, generator)
    assert trial.noted(pinned, LIVE, generator).trial is None


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.BYPASS])
def test_a_route_on_which_the_policy_does_not_decide_takes_no_part(maker, mode):
    """In observe and bypass the static value decodes, also for the candidate's sessions."""
    generator, trial, seen = np.random.default_rng(1), on_trial(share=0.5), maker.observed("chat")
    for index in range(20):
        snapshot = trial.chosen(f"s{index}", LIVE)
        decision = decide(snapshot, seen, Constraints(), mode, generator)
        assert trial.noted(decision, LIVE, generator).trial is None


def test_running_sums_give_the_estimate_of_the_whole_log():
    """The same as `evaluation.snips` of all rewards and weights."""
    generator, evidence = np.random.default_rng(4), Evidence()
    rewards, weights = generator.normal(0.2, 0.4, 300), generator.gamma(2.0, 0.5, 300)
    for reward, weight in zip(rewards, weights, strict=True):
        evidence = evidence.earned(float(weight), float(reward), agreed=False)
    found, expected = evidence.estimate, snips(rewards, weights)

    assert found.value == pytest.approx(expected.value)
    assert found.lower == pytest.approx(expected.lower, abs=1e-3)
    assert found.effective_count == pytest.approx(expected.effective_count)


def trial_of(maker, drop, seed, promotes=False):
    """The learner's state at the end of a canary whose candidate earns `drop` less."""
    generator, share, deviation = np.random.default_rng(seed), 0.4, 0.2
    base = maker.logged(maker.decide(), latency_weight=0.0, propensity=0.5, log_density=0.0)
    base = dataclasses.replace(base, policy_temperature=0.5)
    state = LearnerState(
        learned(1), rollout=Rollout(3, 4, Stage.CANARY, share, promotes), candidate=learned(2)
    )
    for _ in range(int(2 * HORIZON / share)):
        mine = bool(generator.random() < share)
        trial = Trial(3, mine, 1.0 / share if mine else 0.0, 0.5, mine)
        quality = float(np.clip(generator.normal(0.4 - drop * mine, deviation), -1, 1))
        logged = dataclasses.replace(base, trial=trial)
        state = learning.apply(state, Experience(logged, quality, 0.0))
        done = state.rollout.canary.seen >= HORIZON and not promotes
        if done or not state.rollout.stage.is_running:
            break
    return state


def test_a_drop_ends_the_canary_within_its_horizon(maker):
    """And the policy goes on as it was."""
    state = trial_of(maker, 0.1, 1)
    assert state.rollout.stage is Stage.ROLLED_BACK
    assert state.rollout.canary.seen < HORIZON


def test_a_candidate_that_is_better_becomes_the_policy_where_it_may(maker):
    """Only after its whole horizon, and only by its lower bound."""
    state = trial_of(maker, -0.15, 2, promotes=True)
    assert state.rollout.stage is Stage.PROMOTED
    assert state.rollout.canary.seen == HORIZON
    counts = state.parameters.counts.sum() - learned(2).counts.sum()
    assert counts == pytest.approx(1.0, abs=0.1)
    assert trial_of(maker, -0.15, 2).rollout.stage is Stage.CANARY


def test_a_candidate_that_is_no_better_is_not_promoted(maker):
    """It stays a canary until a person decides."""
    state = trial_of(maker, 0.0, 5)
    assert state.rollout.stage is Stage.CANARY
    assert not state.rollout.is_better


def test_rewards_of_another_trial_are_not_counted(maker):
    """A canary that was stopped and started again begins at nothing."""
    logged = maker.logged(maker.decide(), trial=Trial(2, True, 1.0, 0.5, True))
    state = LearnerState(learned(1), rollout=Rollout(3, 4, Stage.CANARY, 0.2))
    assert learning.apply(state, Experience(logged, 0.5, 0.0)).rollout == state.rollout


def test_a_rollout_reads_back(maker):
    """Bit for bit, as the learner compares what is stored."""
    rollout = trial_of(maker, 0.1, 1).rollout
    assert Rollout.from_json(rollout.to_json()) == rollout
    assert Rollout.from_json(rollout.to_json()).to_json() == rollout.to_json()


@pytest.fixture
async def store():
    """A store with versions 1 and 2; the second is live."""
    made = MemoryStore()
    for number in (1, 2):
        version = dataclasses.replace(prior_version(0), version=number)
        assert await made.publish(version, expected_live=number - 1)
    return made


async def test_one_candidate_at_a_time(store, clock):
    """The same one may go from shadow to canary; the live one is no candidate."""
    shadow, canary = (Wanted(1, stage, 0.1, False) for stage in (Stage.SHADOW, Stage.CANARY))
    await administration.start_rollout(store, clock, shadow)
    started = await administration.start_rollout(store, clock, canary)
    imported = await store.import_version(learned(1), 5, 0)

    assert (started.number, started.stage) == (2, Stage.CANARY)
    other = Wanted(imported.version, Stage.CANARY, 0.1, False)
    with pytest.raises(errors.FailedPrecondition):
        await administration.start_rollout(store, clock, other)
    with pytest.raises(errors.FailedPrecondition):
        await administration.start_rollout(store, clock, Wanted(2, Stage.CANARY, 0.1, False))
    with pytest.raises(errors.NotFound):
        await administration.start_rollout(store, clock, Wanted(77, Stage.CANARY, 0.1, False))
    assert (await administration.stop_rollout(store)).stage is Stage.STOPPED
    with pytest.raises(errors.FailedPrecondition):
        await administration.stop_rollout(store)
