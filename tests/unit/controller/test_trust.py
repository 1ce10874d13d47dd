"""What keeps learning honest: signals, influence, replay, the elastic anchor, the guardrail."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.controller.decisions.experience import Experience, reward
from services.controller.decisions.records import Feedback, Outcome
from services.controller.learning import influence, signals
from services.controller.learning import lesson as learning
from services.controller.learning.lesson import LearnerState, Memory
from services.controller.learning.replay import PER_TASK, Buffer, similarity
from services.controller.policies import bandit, gaussian
from services.controller.policies.caution import cautious
from services.controller.policies.elastic import Elastic
from services.controller.policies.policy import prior
from services.controller.trust.guardrail import (
    ALARM,
    MUTED,
    PROBATION,
    Guardrail,
    Sighting,
    Verdict,
)
from thermesh.features import TASKS


def feedback(signal, score):
    """A piece of feedback."""
    return Feedback("default", "f", "d", score, signal)


@pytest.mark.parametrize(
    ("signal", "score", "quality", "trust"),
    [
        ("explicit", 0.4, 0.4, 1.0),
        ("verifier", -1.0, -1.0, 1.0),
        ("regenerate", 1.0, -0.6, 0.5),
        ("abandon", 1.0, -0.4, 0.25),
        ("edit", 0.0, -0.2, 0.6),
        ("edit", 0.5, 0.5, 0.6),
    ],
)
def test_each_signal_says_what_is_documented(signal, score, quality, trust):
    """Implicit signals have a quality of their own and are believed less."""
    judgement = signals.judgement_of(feedback(signal, score))
    assert (judgement.quality, judgement.trust) == (quality, trust)


def test_queue_time_is_a_term_of_its_own(maker):
    """It counts only where an envelope gives it a weight."""
    logged = maker.logged(maker.decide(), latency_weight=0.0)
    waited = Experience(logged, 0.5, 1.0, queue_time_s=5.0)
    weighed = dataclasses.replace(waited, decision=dataclasses.replace(logged, queue_weight=0.2))

    assert reward(waited) == 0.5
    assert reward(weighed) == pytest.approx(0.5 - 0.2 * 0.5)


def test_a_flooding_tenant_weighs_no_more_than_all_others():
    """20 times the feedback, but at most about the same weight."""
    tenants, total = {}, {"flood": 0.0, "people": 0.0}
    generator = np.random.default_rng(1)
    for index in range(4000):
        name = "flood" if generator.random() < 20 / 21 else "people"
        tenants, weight = influence.heard(tenants, name)
        if index > 1000:
            total[name] += weight

    assert total["flood"] < 1.2 * total["people"]


def test_a_lone_tenant_is_heard_in_full():
    """Most installations have one."""
    tenants, weight = {}, 0.0
    for _ in range(100):
        tenants, weight = influence.heard(tenants, "default")
    assert weight == 1.0


def test_tenants_are_remembered_within_a_bound():
    """Inventing names does not fill the checkpoint."""
    tenants = {}
    for index in range(500):
        tenants, _ = influence.heard(tenants, f"t{index}")
    assert len(tenants) == influence.TENANTS_LIMIT


def test_trust_and_influence_scale_what_feedback_does(maker):
    """Half the trust moves the beliefs half as far from where they were."""
    decision = maker.logged(maker.decide(), propensity=0.5, log_density=0.0)
    decision = dataclasses.replace(decision, policy_temperature=0.6)
    context = learning.context_of(decision.task)
    counts = [
        learning.apply(LearnerState(prior("thompson")), Experience(decision, 1.0, 0.0, trust=trust))
        .parameters.counts[context]
        .sum()
        for trust in (1.0, 0.5)
    ]
    assert counts == [1.0, 0.5]


def test_replay_prefers_recent_tasks_and_keeps_old_ones(maker):
    """And it is a function of buffer and count."""
    buffer = Buffer()
    for index in range(40):
        buffer = buffer.with_one(Experience(maker.logged(maker.decide("code")), 1.0, 0.0), index)
    for index in range(3000, 3020):
        buffer = buffer.with_one(Experience(maker.logged(maker.decide("chat")), 1.0, 0.0), index)
    drawn = [each.decision.task for count in range(3020, 3520) for each in buffer.drawn(count, 1)]

    assert all(len(ring.experiences) == PER_TASK for ring in buffer.rings.values())
    assert 0.05 < drawn.count("code") / len(drawn) < 0.35
    assert buffer.drawn(3100, 4) == buffer.drawn(3100, 4)
    assert Buffer.from_lists(json.loads(json.dumps(buffer.to_lists()))) == buffer


def test_replay_repeats_less_what_looks_like_the_newest_task(maker):
    """A task whose requests look the same is taught by these as well; others are not."""
    chats = [Experience(maker.logged(maker.decide("chat")), 1.0, 0.0) for _ in range(3)]
    buffer = Buffer()
    for index, each in enumerate(chats):
        for task, alike in (("arithmetic", each), ("code", None), ("chat", each)):
            shown = alike or Experience(maker.logged(maker.decide("code")), 1.0, 0.0)
            decision = dataclasses.replace(shown.decision, task=task)
            buffer = buffer.with_one(dataclasses.replace(shown, decision=decision), index)
    drawn = [each.decision.task for count in range(3, 603) for each in buffer.drawn(count, 1)]

    assert 0.15 < drawn.count("arithmetic") / len(drawn) < 0.35
    assert drawn.count("code") > 1.5 * drawn.count("arithmetic")


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=3))
def test_a_task_is_as_similar_to_itself_as_can_be(centre):
    """And not at all to its opposite, or to what is neutral."""
    itself = np.array(centre)
    found = [similarity(itself, other) for other in (itself, -itself, np.zeros(3))]
    assert found == [pytest.approx(float(itself.any()), abs=1e-6), 0.0, 0.0]


def ones(value):
    """Parameters that are all one number."""
    lists = gaussian.prior().to_lists()
    return gaussian.Parameters(**{name: np.full(np.shape(lists[name]), value) for name in lists})


def test_the_anchor_is_cast_when_one_task_takes_over_and_raised_when_it_is_mixed_again():
    """A mixture pulls nowhere; a stretch of one task pulls back to what was before."""
    elastic = Elastic()
    for index in range(400):
        elastic = elastic.observed(ones(1.0), ones(2.0), index % len(TASKS))
    assert elastic.pulled(ones(3.0), 0.02) == ones(3.0)
    for _ in range(200):
        elastic = elastic.observed(ones(1.0), ones(2.0), 0)
    pulled = elastic.pulled(ones(3.0), 0.02)
    assert (pulled.w1 < 3.0).all()
    assert (pulled.w1 > 1.0).all()
    for index in range(200):
        elastic = elastic.observed(ones(1.0), ones(2.0), index % len(TASKS))
    assert elastic.anchor is None


def watched(rewards, guardrail=None, tenant="default", place="0:3", broken=False):
    """The guardrail after rewards, and what it said of each."""
    guardrail, verdicts = guardrail or Guardrail(), []
    for each in rewards:
        sighting = Sighting(float(each), place, tenant, broken)
        guardrail, verdict = guardrail.watch(sighting)
        if verdict is Verdict.LEARN:
            guardrail = guardrail.followed(sighting, prior())
        verdicts.append(verdict)
    return guardrail, verdicts


def test_the_guardrail_rolls_back_when_feedback_is_turned_round_and_waits():
    """Within a few, and it does not learn from it however long it goes on."""
    generator = np.random.default_rng(2)
    good = generator.normal(0.5, 0.6, 1000)
    guardrail, verdicts = watched(good)
    assert Verdict.ROLL_BACK not in verdicts
    guardrail, verdicts = watched(-good, guardrail)

    rolled = verdicts.index(Verdict.ROLL_BACK)
    assert rolled < 40
    assert set(verdicts[rolled + 1 :]) == {Verdict.HOLD}
    assert guardrail.rollbacks == 1


def test_turned_feedback_is_found_out_also_where_the_policy_moved_to():
    """Praise where little was earned is as telling as blame where much was."""
    generator = np.random.default_rng(4)
    guardrail, _ = watched(generator.normal(0.5, 0.3, 200))
    guardrail, _ = watched(generator.normal(-0.5, 0.3, 100), guardrail, place="0:8")
    _, verdicts = watched(generator.normal(0.5, 0.3, 60), guardrail, place="0:8")
    assert Verdict.ROLL_BACK in verdicts


def test_what_is_unknown_is_no_evidence():
    """A place that was never seen neither raises nor lowers suspicion."""
    guardrail, _ = watched(np.random.default_rng(4).normal(0.5, 0.3, 200))
    after, verdicts = watched([-1.0], guardrail, place="0:9")
    assert after.gathered == guardrail.gathered
    assert verdicts == [Verdict.LEARN]


def test_a_place_hardly_known_is_judged_by_what_was_believed_of_it():
    """Praise for the coolest stories, of which the prior expects little, is no news to trust."""
    guardrail, _ = watched(np.random.default_rng(4).normal(0.5, 0.3, 200), place="0:6")
    _, verdicts = watched(np.random.default_rng(5).normal(0.5, 0.2, 60), guardrail, place="0:0")
    assert Verdict.ROLL_BACK in verdicts


def test_feedback_that_makes_sense_again_is_learned_from_after_the_probation():
    """Nobody has to step in, and what was known still counts."""
    generator = np.random.default_rng(3)
    guardrail, _ = watched(generator.normal(0.5, 0.3, 500))
    guardrail, first = watched(generator.normal(-0.5, 0.3, 25), guardrail)
    guardrail, verdicts = watched(generator.normal(0.5, 0.3, 2 * PROBATION), guardrail)

    assert Verdict.ROLL_BACK in first
    assert verdicts[-1] is Verdict.LEARN
    assert guardrail.seen > 500


def test_a_world_that_changed_is_learned_from_the_good_parameters():
    """After two probations nothing is taken for granted but what to go back to."""
    generator = np.random.default_rng(3)
    guardrail, _ = watched(generator.normal(0.5, 0.3, 500))
    guardrail, _ = watched(generator.normal(-0.5, 0.3, 40), guardrail)
    guardrail, verdicts = watched(generator.normal(0.02, 0.1, 2 * PROBATION + 20), guardrail)

    assert verdicts[-1] is Verdict.LEARN
    assert guardrail.seen <= 80
    assert guardrail.pinned == prior()


def test_feedback_that_is_still_turning_is_not_taken_for_a_changed_world():
    """Half turned round at the first probation, all of it at the second: it stays held."""
    generator = np.random.default_rng(3)
    guardrail, _ = watched(generator.normal(0.5, 0.3, 500))
    guardrail, _ = watched(generator.normal(-0.5, 0.3, 25), guardrail)
    half = generator.normal(0.5, 0.3, PROBATION) * np.where(np.arange(PROBATION) % 2, -1, 1)
    guardrail, _ = watched(half, guardrail)
    guardrail, verdicts = watched(generator.normal(-0.5, 0.3, 2 * PROBATION), guardrail)

    assert set(verdicts) == {Verdict.HOLD}
    assert guardrail.rollbacks == 1


@pytest.mark.slow
def test_a_tenth_of_flipped_feedback_is_borne():
    """Most of 12 runs of 1,000 raise no alarm."""
    rolled = 0
    for seed in range(12):
        generator = np.random.default_rng(seed)
        rewards = generator.normal(0.5, 0.4, 2000)
        rewards[1000:] *= np.where(generator.random(1000) < 0.1, -1, 1)
        rolled += Verdict.ROLL_BACK in watched(rewards)[1]
    assert rolled <= 2
    assert ALARM > 0


def test_a_tenant_that_contradicts_all_others_is_not_heard_and_the_others_are():
    """One of ten turns its feedback round: it is muted, nobody else, and nothing is rolled back."""
    generator, guardrail = np.random.default_rng(6), Guardrail()
    heard = {"liar": [], "honest": []}
    for index in range(3000):
        name = "liar" if index % 10 == 0 else "honest"
        gained = generator.normal(-0.5 if name == "liar" and index > 500 else 0.5, 0.3)
        guardrail, verdicts = watched([gained], guardrail, tenant=name)
        heard[name] += verdicts
    assert guardrail.rollbacks == 0
    assert set(heard["liar"][100:]) == {Verdict.HOLD}
    assert heard["honest"].count(Verdict.HOLD) == 0
    assert guardrail.silenced > 200


def test_a_muted_tenant_that_behaves_is_heard_again():
    """Its sum falls with every piece of feedback that agrees."""
    generator = np.random.default_rng(6)
    guardrail, _ = watched(generator.normal(0.5, 0.3, 500))
    muted = dataclasses.replace(guardrail, tenants={"t": 3 * MUTED})
    _, verdicts = watched(generator.normal(0.5, 0.3, 60), muted, tenant="t")
    assert verdicts[0] is Verdict.HOLD
    assert verdicts[-1] is Verdict.LEARN


def test_praise_cannot_keep_a_policy_whose_answers_are_broken():
    """What inference measures raises the alarm, whatever users say."""
    guardrail, _ = watched([0.9] * 300)
    _, verdicts = watched([0.9] * 60, guardrail, broken=True)
    assert Verdict.ROLL_BACK in verdicts


def test_praise_of_a_broken_answer_teaches_nothing(maker):
    """Blame of it does."""
    logged = maker.logged(maker.decide(), propensity=0.5, log_density=0.0, policy_temperature=0.6)
    counts = [
        learning.apply(
            LearnerState(prior("thompson")), Experience(logged, quality, 0.0, broken=True)
        ).parameters.counts.sum()
        for quality in (1.0, -1.0)
    ]
    assert counts == [0.0, 1.0]


def test_an_answer_that_loops_or_drifts_is_broken():
    """As steering sees it, but over the whole answer."""
    fine = Outcome("d", "stop", 1, 1, 0, 0, 0, mean_entropy=2.0, repetition=0.2)
    assert not signals.is_broken(fine)
    assert signals.is_broken(dataclasses.replace(fine, repetition=0.6))
    assert signals.is_broken(dataclasses.replace(fine, mean_entropy=6.0))


def test_feedback_put_aside_is_learned_from_once_suspicion_has_passed(maker):
    """Nothing honest is lost to a suspicion that proves unfounded."""
    logged = maker.logged(
        maker.decide(), latency_weight=0.0, propensity=0.5, log_density=0.0, policy_temperature=0.6
    )
    state = LearnerState(prior("thompson"))
    qualities = [0.8 + 0.1 * (index % 3) for index in range(200)] + [-0.9] * 2 + [0.9] * 10
    aside = 0
    for quality in qualities:
        state = learning.apply(state, Experience(logged, quality, 0.0))
        aside = max(aside, len(state.memory.deferred))
    assert aside > 0
    assert state.memory.deferred == ()
    assert state.memory.guardrail.seen == len(qualities)


@pytest.mark.slow
def test_nothing_is_learned_while_suspicion_hovers(maker):
    """Feedback of which half is turned round is put aside, the newest, however long it lasts."""
    logged = maker.logged(
        maker.decide(), latency_weight=0.0, propensity=0.5, log_density=0.0, policy_temperature=0.6
    )
    state = LearnerState(prior("thompson"))
    for index in range(200):
        state = learning.apply(state, Experience(logged, 0.4 + 0.5 * (-1) ** index, 0.0))
    # turned round until it is suspected clearly, then as often one way as the other
    while state.memory.guardrail.gathered < 9.0:
        state = learning.apply(state, Experience(logged, -0.4, 0.0))
    believed, rollbacks = state.parameters, state.memory.guardrail.rollbacks
    for quality in [0.4, -0.4] * learning.DEFERRED_LIMIT:
        state = learning.apply(state, Experience(logged, quality, 0.0))

    assert state.parameters == believed
    assert len(state.memory.deferred) == learning.DEFERRED_LIMIT
    assert state.memory.guardrail.rollbacks == rollbacks == 0


def test_a_cautious_policy_keeps_to_what_is_known_best():
    """An action that did well in two tries gives way to one that did nearly as well in 200."""
    actions = bandit.grid((0.2, 0.6, 1.0))
    beliefs = bandit.prior(actions, 0.0)
    for index in range(200):
        beliefs = bandit.updated(beliefs, 0, actions[0], 0.6 + 0.5 * (-1) ** index)
    for _ in range(2):
        beliefs = bandit.updated(beliefs, 0, actions[1], 0.7)
    allowed = np.ones(3, bool)
    assert bandit.best(beliefs, 0, allowed) == 1
    chances = bandit.probabilities(cautious(beliefs), 0, allowed)
    assert chances.argmax() == 0
    assert chances[0] > 0.98


@pytest.mark.parametrize("kind", ["thompson", "squashed_gaussian"])
def test_a_rollback_publishes_the_last_good_parameters(maker, kind):
    """The learner goes back and holds; the memory reads back bit for bit."""
    state = LearnerState(prior(kind))
    logged = maker.logged(maker.decide(), latency_weight=0.0)
    if kind == "thompson":
        logged = dataclasses.replace(
            logged, propensity=0.5, log_density=0.0, policy_temperature=0.6
        )
    for index in range(260):
        quality = (0.8 + 0.1 * (index % 3)) * (1 if index < 240 else -1)
        before, state = state, learning.apply(state, Experience(logged, quality, 0.0))
        if state.memory.guardrail.rollbacks > before.memory.guardrail.rollbacks:
            assert state.parameters == cautious(before.memory.guardrail.pinned)
    held = learning.apply(state, Experience(logged, -1.0, 0.0))

    assert state.memory.guardrail.rollbacks == 1
    assert held.parameters == state.parameters
    stored = json.loads(json.dumps(state.memory.to_lists()))
    assert Memory.from_lists(stored).to_lists() == state.memory.to_lists()
