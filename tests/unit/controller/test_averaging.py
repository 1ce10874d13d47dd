"""Federated averaging, with simulated sites that learn apart from one base."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.trust.users import BEST_STATIC, MEANS, drawn, newborn
from services.controller.policies import bandit, gaussian
from services.controller.policies.bandit import context_of
from services.controller.policies.policy import parameters_of
from thermesh.cli.averaging import Protection, averaged
from thermesh.errors import InvalidArgument

CONTEXTS = [context_of(task) for task in ("question_answering", "chat", "generation")]


def file_of(parameters, feedback_count=0):
    """The content of a policy file."""
    return {
        "format": 1,
        "kind": parameters.kind,
        "version": 1,
        "reason": "learned",
        "feedback_count": feedback_count,
        "parameters": parameters.to_lists(),
    }


def site(task, seed, count=150, sign=1.0):
    """What a site learned that only ever sees one kind of request."""
    generator, beliefs = np.random.default_rng(seed), newborn()
    allowed = np.ones(len(beliefs.actions), bool)
    for _ in range(count):
        chances = bandit.probabilities(beliefs, CONTEXTS[task], allowed)
        action = beliefs.actions[int(generator.choice(len(chances), p=chances / chances.sum()))]
        reward = sign * (2 * drawn(task, action.temperature, generator) - 1)
        beliefs = bandit.updated(beliefs, CONTEXTS[task], action, reward)
    return file_of(beliefs, count)


def earned(content):
    """The mean reward of the best action of each kind of request, by its beliefs."""
    beliefs = parameters_of(content["kind"], content["parameters"])
    allowed = np.ones(len(beliefs.actions), bool)
    best = [bandit.best(beliefs, context, allowed) for context in CONTEXTS]
    return float(np.mean([MEANS[task, action] for task, action in enumerate(best)]))


def test_sites_that_saw_different_requests_know_together_what_none_knew_alone():
    """The average decides all kinds well, though each site saw one."""
    base = file_of(newborn())
    sites = [site(task, seed) for task in range(3) for seed in (1, 2)]
    together = averaged(base, sites, Protection(), random.Random(1))

    # two neighbours may earn nearly the same: which of them wins is left to the rewards drawn
    assert earned(together) >= max(earned(each) for each in [base, *sites]) - 0.015
    assert earned(together) > MEANS[:, BEST_STATIC].mean()
    assert together["feedback_count"] == 900
    parameters_of(together["kind"], together["parameters"])


def test_one_site_moves_the_average_no_further_than_its_share_of_the_clip():
    """However much it claims to have learned."""
    base = file_of(newborn())
    sites = [site(task, 1) for task in range(3)]
    liar = site(0, 9, count=600, sign=-1.0)
    protection = Protection(clip=20.0, noise=1e-9)
    honest, attacked = (
        averaged(base, [*sites, each], protection, random.Random(1)) for each in (sites[0], liar)
    )
    moved = np.array(honest["parameters"]["sums"]) - np.array(attacked["parameters"]["sums"])
    assert np.linalg.norm(moved) <= 2 * 20.0 / 4 + 1e-6
    assert earned(attacked) > MEANS[:, BEST_STATIC].mean() - 0.05


def test_noise_has_the_size_that_was_asked_for():
    """noise * clip / sites for each number, of a density too."""
    base = file_of(gaussian.prior())
    noisy = averaged(base, [base] * 4, Protection(clip=2.0, noise=0.5), random.Random(1))
    added = np.array(noisy["parameters"]["w1"]) - np.array(base["parameters"]["w1"])
    assert added.std() == pytest.approx(0.5 * 2.0 / 4, rel=0.15)


def test_without_protection_sites_weigh_by_their_feedback():
    """And one site alone is its own average."""
    base, learned = file_of(gaussian.prior()), gaussian.prior().to_lists()
    learned["b2"] = [1.0]
    changed = {**base, "parameters": learned, "feedback_count": 30}
    idle = {**base, "feedback_count": 10}
    average = averaged(base, [changed, idle], Protection(), random.Random(1))
    alone = averaged(base, [changed], Protection(), random.Random(1))

    assert average["parameters"]["b2"] == [0.75]
    assert alone["parameters"] == learned


@pytest.mark.parametrize(
    "other",
    [
        file_of(gaussian.prior()),
        file_of(bandit.prior(bandit.grid((0.1, 0.9)))),
        {**file_of(newborn()), "parameters": {**newborn().to_lists(), "seen": ["x"]}},
    ],
    ids=["kind", "grid", "text"],
)
def test_what_does_not_fit_is_refused(other):
    """Another kind, another grid, or no numbers at all."""
    with pytest.raises(InvalidArgument):
        averaged(file_of(newborn()), [other], Protection(), random.Random(1))


@pytest.mark.parametrize("values", [(-1.0, 0.0), (0.0, 1.0), (float("nan"), 0.0)])
def test_protection_that_protects_nothing_is_refused(values):
    """Noise is measured by the clip."""
    with pytest.raises(InvalidArgument):
        Protection(*values)
