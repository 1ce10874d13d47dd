"""The study draws as the engine does, learns as the product does, and judges fairly."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from benchmarks.kept import Kept
from benchmarks.policy import judging, live
from benchmarks.policy.arms import Dynatemp, Edt, Mirostat, Static, View
from benchmarks.policy.families import FAMILIES, PROMPTS, TRAIN, Answer
from benchmarks.policy.learners import LinUcb, Thompson, Tuning, World, replay
from benchmarks.policy.matrix import Matrix
from services.controller.policies import bandit
from services.controller.policies import shapes as shipped
from services.inference.sampling import settings as sampling
from services.inference.sampling.sampler import Row, random_unit, sample
from thermesh.features import TASKS

GUARDS = {
    "top_n_sigma": sampling.Guard(top_n_sigma=1.0),
    "min_p": sampling.Guard(min_p=0.05),
    "none": sampling.Guard(),
}


def rows(seed, count=40, vocabulary=500):
    """Logits as a language model has them: a few high ones."""
    generator = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(count, vocabulary, generator=generator)


def arms():
    """Each arm that the engine's sampler knows too, with the sampler's request."""
    for guard, wanted in GUARDS.items():
        for temperature in (0.1, 0.6, 1.2):
            program = sampling.Fixed(temperature)
            yield Static(temperature, guard), sampling.Sampling(program, wanted)
    yield Edt(0.8, 0.5), sampling.Sampling(sampling.Edt(0.8, 0.5))
    guard = sampling.Guard(top_k=40, min_p=0.05)
    yield Dynatemp(0.7, 0.3), sampling.Sampling(sampling.Dynatemp(0.7, 0.3, 1.0), guard)


@pytest.mark.parametrize(("arm", "wanted"), list(arms()), ids=lambda each: str(each)[:40])
def test_arms_draw_what_the_engine_draws(arm, wanted):
    """The same seed and place give the same token and temperature."""
    logits = rows(1)
    drawn = sample(logits, [Row(wanted, 7, index) for index in range(len(logits))])
    found = [
        arm.draw(View(row.numpy()), random_unit(7, index), None) for index, row in enumerate(logits)
    ]
    assert [token for token, _, _ in found] == [each.token_id for each in drawn]
    temperatures = [each.temperature for each in drawn]
    assert [each for _, each, _ in found] == pytest.approx(temperatures, rel=1e-4)


def test_mirostat_holds_its_surprise():
    """The mean surprise over many tokens is near tau."""
    arm, state, generator = Mirostat(2.0), None, np.random.default_rng(0)
    logits = rows(2)
    surprises = []
    for step in range(400):
        view, before = View(logits[step % 40].numpy()), 4.0 if state is None else state
        _, _, state = arm.draw(view, generator.random(), state)
        surprises.append((before - state) / arm.eta + arm.tau)
    assert np.mean(surprises) == pytest.approx(2.0, abs=0.15)


def test_every_family_has_its_prompts_once():
    """350 different prompts each, the same ones every time, in three levels."""
    for family in FAMILIES:
        prompts = family.prompts()
        assert len({prompt.text for prompt in prompts}) == len(prompts) == PROMPTS > TRAIN
        assert prompts == family.prompts()
    assert {family.level for family in FAMILIES} == {"simple", "medium", "complex"}
    assert {family.task for family in FAMILIES} == set(TASKS)


def test_references_earn_the_most():
    """Where there is a reference, its verifier gives it the whole reward."""
    for family in FAMILIES:
        for prompt in family.prompts():
            if prompt.reference:
                assert family.verify(Answer(prompt.reference), prompt.known) == 1.0


def test_replayed_beliefs_are_the_products():
    """Mean and spread after many rewards equal those of the controller's bandit."""
    actions, generator = bandit.grid(), np.random.default_rng(0)
    context = bandit.context_of(TASKS[0])
    shape = bandit._shapes(actions)[[context]]
    learner = Thompson(1, 1, actions, shape, Tuning())
    product = bandit.prior(actions)
    for _ in range(300):
        action, reward = int(generator.integers(len(actions))), float(generator.random())
        learner.learn(np.array([0]), np.array([action]), np.array([reward]))
        product = bandit.updated(product, context, actions[action], 2.0 * reward - 1.0)
    mean, spread = bandit.beliefs(product, context)
    found_mean, found_spread, _ = learner.normals(np.array([0]))
    assert found_mean[0] == pytest.approx(mean)
    assert found_spread[0] == pytest.approx(spread)


@pytest.mark.parametrize("kind", [Thompson, LinUcb])
def test_learners_find_the_best_action_of_each_task(kind):
    """In a world with clear winners the end earns more than any static action."""
    table = np.zeros((2, 50, 3))
    table[0, :, 0] = table[1, :, 2] = 1.0
    world = World(table)
    learner = kind(4, 2, bandit.grid((0.1, 0.6, 1.2)), None, Tuning())
    earned = replay(learner, lambda _: world, 4, 400)
    assert earned[:, -100:].mean() > 0.9 > world.best_static
    policy = learner.policy(np.random.default_rng(1), 50)
    assert policy.sum(axis=2) == pytest.approx(1.0)
    assert policy[:, 0, 0].min() > 0.9
    assert policy.min() > 0.0  # the floor


def test_a_policy_is_judged_by_what_it_takes():
    """Missing cells of other actions do not matter, those of its own leave the prompt out."""
    rewards = np.array([[[[0.2, np.nan]], [[0.4, 1.0]]]])
    assert judging.values(rewards, np.array([[1.0, 0.0]])).tolist() == [[0.2, 0.4]]
    both = judging.values(rewards, np.array([[0.5, 0.5]]))
    assert np.isnan(both[0, 0])
    assert both[0, 1] == pytest.approx(0.7)


@pytest.mark.slow
def test_few_answers_tell_the_best_action_less_surely():
    """Chosen from all that were judged it is always the same, from few it is now and then not."""
    generator = np.random.default_rng(0)
    rewards = (generator.random((2, 400, 3)) < np.array([0.4, 0.5, 0.6])).astype(float)
    few, many = (judging.best_by_task_of(rewards, answers) for answers in (60, 60_000))

    assert few.sum(axis=1) == pytest.approx(1.0)
    assert 0.4 < few[:, 2].min() < 0.95 < many[:, 2].min()
    with pytest.raises(ValueError, match="fewer than 6"):
        judging.best_by_task_of(rewards, 5)


def test_an_interval_holds_its_mean():
    """A constant gap has an interval without width."""
    left, right = np.full((2, 30), 0.5), np.full((2, 30), 0.3)
    found = judging.difference(left, right)
    assert found.lower == pytest.approx(found.mean) == pytest.approx(found.upper)
    assert found.prompts == 60


def test_a_matrix_survives_storage(tmp_path):
    """To the step of its quantisation, gaps among it."""
    generator = np.random.default_rng(0)
    shape = (len(FAMILIES), 3, 2, 4, 3)
    shares = {name: generator.random(shape) for name in ("quality", "rouge", "bleu", "fresh")}
    shares["quality"][0, 0] = np.nan
    stored = Matrix(("a", "b", "c", "d"), **shares, tokens=np.full(shape, 7.0), about={"x": 1})
    stored.save(tmp_path / "matrix.npz")
    read = Matrix.load(tmp_path / "matrix.npz")
    assert read.arms == stored.arms
    assert read.about == {"x": 1}
    np.testing.assert_allclose(read.reward, stored.reward, atol=0.0021)


def test_the_shipped_prior_knows_every_task():
    """No action is expected to earn more than 0.1 above the best behind the usual guard."""
    temperatures, losses = shipped.measured()
    assert set(losses) == set(TASKS)
    assert max(max(row) for task in losses.values() for row in task.values()) <= 0.1
    for task in TASKS:
        best = [shipped.expected_loss(task, "top_n_sigma", each) for each in temperatures]
        assert max(best) == 0.0
    assert shipped.expected_loss("", "none", 5.0) < -0.1


def test_a_replay_goes_on_where_it_stopped(tmp_path):
    """A step is computed once for one matrix, and again for another."""
    path, counted = tmp_path / "replay.json", []

    def step():
        counted.append(1)
        return {"value": 0.5}

    assert Kept(path, "first").computed("rules", step) == {"value": 0.5}
    assert Kept(path, "first").computed("rules", step) == {"value": 0.5}
    assert len(counted) == 1
    Kept(path, "second").computed("rules", step)
    assert len(counted) == 2


def test_a_live_run_asks_what_is_missing(tmp_path):
    """Held-out prompts only, each once, every family alike."""
    asked = live.Asked(0.5, "chat", 0.4, 3, is_decided=True)
    every = live.wanted(70, [])
    have = [live.Pair(place, prompt, asked, asked) for place, prompt in every[:30]]
    path = tmp_path / "live.jsonl"
    path.write_text("".join(json.dumps(dataclasses.asdict(pair)) + "\n" for pair in have))

    assert live.pairs_of(path) == have
    assert live.wanted(70, live.pairs_of(path)) == every[30:]
    assert len(set(every)) == 70
    assert all(TRAIN <= prompt < PROMPTS for _, prompt in every)
    assert live.summary(have)["against_static"]["mean"] == 0.0
