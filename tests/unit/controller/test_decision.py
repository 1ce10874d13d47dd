"""A decision: the user's own value wins, the rest is drawn and accounted for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.capabilities import PATHS, Capabilities
from services.controller.decisions.decision import Constraints, Mode, Observation, Source, decide
from services.controller.decisions.records import Context, DecisionRecord, LoggedDecision
from services.controller.policies import bandit
from services.controller.policies.actions import Action
from services.controller.policies.envelope import ENVELOPES
from services.controller.policies.gaussian import distribution, prior
from services.controller.policies.policy import NEUTRAL, PolicySnapshot
from services.controller.sampling import (
    Dynatemp,
    Edt,
    Fixed,
    Guard,
    Penalties,
    Residual,
    program_at,
)

SNAPSHOT = PolicySnapshot(7, prior(), 0)


def generator(seed=0):
    """A generator that always says the same."""
    return np.random.default_rng(seed)


def test_a_fact_and_a_story_differ_on_nearly_every_draw(maker):
    """Exploration is far smaller than the distance between kinds of request."""
    facts = [maker.decide("question_answering") for _ in range(300)]
    stories = [maker.decide("generation") for _ in range(300)]
    pairs = zip(facts, stories, strict=True)
    apart = [
        story.sampling.program.temperature - fact.sampling.program.temperature > 0.1
        for fact, story in pairs
    ]

    assert sum(apart) >= 297


@settings(max_examples=60, deadline=None)
@given(
    scenario=st.sampled_from(list(ENVELOPES)),
    ends=st.none() | st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)),
    seed=st.integers(0, 2**32),
)
def test_a_drawn_temperature_is_inside_the_envelope(scenario, ends, seed):
    """Also where the user narrowed it, down to a point."""
    wanted = tuple(sorted(ends)) if ends else None
    constraints = Constraints(scenario=scenario, temperature_range=wanted)
    decision = decide(SNAPSHOT, Observation(), constraints, Mode.APPLY, generator(seed))
    bounds = decision.envelope

    assert bounds.lower <= decision.sampling.program.temperature <= bounds.upper
    assert decision.explored == (bounds.lower < bounds.upper)


def test_the_logged_density_is_that_of_the_drawn_temperature(maker):
    """What is logged is what the snapshot says of the temperature that decodes."""
    decision = maker.decide("code")
    density = distribution(
        maker.snapshot.parameters,
        maker.snapshot.feedback_count,
        decision.observation.features,
        decision.envelope.lower,
        decision.envelope.upper,
    )

    assert decision.log_density == pytest.approx(density.log_density(decision.policy_temperature))
    assert decision.sampling.program == Fixed(decision.policy_temperature)


@pytest.mark.parametrize("temperature", [0.0, 0.1, 0.7, 2.0])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_pinned_temperature_is_exact_in_every_mode(maker, temperature, mode):
    """The user's value decodes, nothing counts as explored."""
    decision = maker.decide(mode=mode, temperature=temperature)

    assert decision.sampling.program == Fixed(temperature)
    assert decision.source is Source.PINNED
    assert (decision.explored, decision.log_density) == (False, 0.0)
    assert (decision.policy_temperature == 0.0) == (mode is Mode.BYPASS)


def test_a_pinned_program_is_kept_whole(maker):
    """A whole temperature program is the user's own value too."""
    decision = maker.decide(program=Edt(0.9, 0.2))

    assert decision.sampling.program == Edt(0.9, 0.2)
    assert decision.source is Source.PINNED


def test_observe_decodes_the_static_value_and_logs_the_policys(maker):
    """The policy is asked but not followed."""
    decision = maker.decide("generation", mode=Mode.OBSERVE)

    assert decision.sampling.program == Fixed(ENVELOPES["generation"].static_temperature)
    assert decision.source is Source.STATIC
    assert decision.policy_temperature > 0
    assert not decision.explored


def test_bypass_does_not_ask_the_policy(maker):
    """No policy temperature is made up."""
    decision = maker.decide(mode=Mode.BYPASS)

    assert decision.source is Source.STATIC
    assert decision.policy_temperature == 0.0
    assert decision.policy_version == 1


def test_the_same_generator_gives_the_same_decision():
    """A decision is a function of its arguments."""
    observation = Observation()
    one, two = (
        decide(SNAPSHOT, observation, Constraints(), Mode.APPLY, generator(4)) for _ in range(2)
    )

    assert one == two


def test_decision_ids_do_not_repeat(maker):
    """Ids join plan, outcome and feedback, so each is new and well formed."""
    ids = {maker.decide().decision_id for _ in range(1000)}

    assert len(ids) == 1000
    assert all(len(each) == 36 and each.startswith("dec-") for each in ids)


def test_the_users_other_values_win(maker):
    """Seed, budget, guard members and penalties are taken over; gaps are the policy's."""
    decision = maker.decide(
        "question_answering",
        seed=2**64 - 1,
        max_tokens=4000,
        guard=Guard(top_p=0.9),
        penalties=Penalties(presence=0.5),
        logit_bias={5: -1.0},
    )

    assert decision.seed == 2**64 - 1
    assert decision.token_budget == 4000
    assert decision.sampling.guard == Guard(top_n_sigma=1.0, top_p=0.9)
    assert decision.sampling.penalties == Penalties(presence=0.5)
    assert decision.sampling.logit_bias == {5: -1.0}


def test_without_max_tokens_the_envelope_caps_the_answer(maker):
    """The cap of the scenario is the budget."""
    assert maker.decide("classification").token_budget == ENVELOPES["classification"].token_cap


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("fixed", Fixed(0.5)),
        ("edt", Edt(0.5, 0.1)),
        ("dynatemp", Dynatemp(0.5, 0.1, 1.0)),
        ("residual", Residual(0.5, 0.4, 1.0, 0.1)),
    ],
)
def test_a_program_kind_works_at_the_drawn_temperature(kind, expected):
    """An envelope may choose another program than the fixed one."""
    assert program_at(kind, 0.5) == expected


def test_the_token_program_of_the_settings_decodes_where_the_engine_has_it():
    """Tokens follow it around the drawn temperature; an engine without it holds that fixed."""
    less = Capabilities(programs=("fixed", "edt"))
    wanted = [
        decide(
            SNAPSHOT,
            Observation(),
            Constraints(),
            Mode.APPLY,
            generator(3),
            capabilities=able,
            program="residual",
        )
        for able in (Capabilities(), less)
    ]

    drawn = wanted[0].policy_temperature
    assert [each.sampling.program for each in wanted] == [
        program_at("residual", drawn),
        Fixed(drawn),
    ]
    assert wanted[0].envelope.program == "residual"


def test_a_plan_stays_within_what_the_engine_can_do():
    """No guard, program or path that would be dropped; the user's own values stay as they are."""
    able = Capabilities(programs=("fixed",), guards=("top_p",), paths=("standard",))
    chosen = [Action(level, "top_n_sigma", 1.0, path) for level in (0.2, 0.6) for path in PATHS]
    grid = PolicySnapshot(1, bandit.prior(tuple(chosen)), 0)
    own = Constraints(guard=Guard(top_k=5))
    for seed in range(40):
        drawn = decide(grid, Observation(), own, Mode.APPLY, generator(seed), capabilities=able)
        assert drawn.compute_path == "standard"
        assert drawn.sampling.guard == Guard(top_k=5)
        assert isinstance(drawn.sampling.program, Fixed)


def test_propensities_are_those_of_the_paths_that_the_engine_has():
    """Each path that is there takes its share, and the log replays it."""
    chosen = tuple(Action(0.6, "top_n_sigma", 1.0, path) for path in PATHS)
    grid = PolicySnapshot(1, bandit.prior(chosen), 0)
    for paths in (("standard",), ("light", "standard"), PATHS):
        able = Capabilities(paths=paths)
        decision = decide(
            grid, Observation(), Constraints(), Mode.APPLY, generator(3), capabilities=able
        )
        record = DecisionRecord(decision, Context("req"), "m", "/r", 0)
        logged = LoggedDecision.from_json(record.to_json())
        assert decision.compute_path in paths
        assert logged.paths == paths
        assert grid.importance(logged) == pytest.approx(1.0)
        assert (decision.propensity == pytest.approx(1.0)) == (len(paths) == 1)


def test_no_request_pays_for_a_new_version(monkeypatch):
    """What was asked of the version before is worked out when the next one is adopted, and is
    what it would have worked out when asked.
    """
    newer = bandit.updated(bandit.prior(), 0, bandit.grid()[1], 1.0)
    asked = PolicySnapshot(1, bandit.prior(), 0)
    asked.draw(NEUTRAL, "code", 0.1, 0.8, generator())
    fresh = PolicySnapshot(2, newer, 1).draw(NEUTRAL, "code", 0.1, 0.8, generator(1))
    adopted = PolicySnapshot(2, newer, 1, asked)
    monkeypatch.setattr(bandit, "probabilities", None)

    assert adopted.draw(NEUTRAL, "code", 0.1, 0.8, generator(1)) == fresh


def test_a_version_with_another_grid_takes_nothing_over():
    """Its actions are others, and so are those that a range leaves."""
    asked = PolicySnapshot(1, bandit.prior(), 0)
    asked.draw(NEUTRAL, "code", 0.1, 0.8, generator())
    adopted = PolicySnapshot(2, bandit.prior(bandit.grid((0.3, 0.7))), 0, asked)

    assert adopted.draw(NEUTRAL, "code", 0.1, 0.8, generator()).temperature in {0.3, 0.7}
