"""Envelopes bound what the policy may do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.policies.envelope import ENVELOPES, envelope_of
from services.controller.policies.gaussian import NEUTRAL
from services.controller.sampling import Guard
from thermesh.errors import InvalidArgument
from thermesh.features import INDEX, TASKS

temperatures = st.floats(0.1, 2.0)


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=list(ENVELOPES))
def test_every_envelope_is_inside_the_wire_range(envelope):
    """Ranges are real, hold the static temperature, and are guarded."""
    assert 0.1 <= envelope.lower < envelope.static_temperature < envelope.upper <= 2.0
    assert envelope.guard.top_n_sigma == 1.0
    assert envelope.program == "fixed"


@pytest.mark.parametrize("task", [*TASKS, ""])
def test_every_task_has_an_envelope(task):
    """A request without a scenario is bounded by that of its task."""
    scenario = {"chat": "dialogue", "": "dialogue"}.get(task, task)

    assert envelope_of("", task).scenario == scenario


def test_a_named_scenario_wins_over_the_task():
    """The user knows better than the classifier."""
    assert envelope_of("translation", "code").scenario == "translation"


def test_an_unknown_scenario_is_refused_with_the_known_ones():
    """The message lists what may be used."""
    with pytest.raises(InvalidArgument) as raised:
        envelope_of("poetry", "chat")

    assert raised.value.field == "constraints.scenario"
    assert all(name in raised.value.message for name in ENVELOPES)


@settings(max_examples=60, deadline=None)
@given(first=temperatures, second=temperatures, scenario=st.sampled_from(list(ENVELOPES)))
def test_narrowing_never_leaves_the_users_range(first, second, scenario):
    """The narrowed range is inside the user's, and inside the envelope where they meet."""
    wanted = min(first, second), max(first, second)
    envelope = ENVELOPES[scenario]
    narrowed = envelope.narrowed(wanted)
    meets = wanted[0] <= envelope.upper and wanted[1] >= envelope.lower

    assert wanted[0] <= narrowed.lower <= narrowed.static_temperature
    assert narrowed.static_temperature <= narrowed.upper <= wanted[1]
    assert not meets or envelope.lower <= narrowed.lower <= narrowed.upper <= envelope.upper


def features(**members):
    """A vector with some members set."""
    found = NEUTRAL.copy()
    for name, value in members.items():
        found[INDEX[name]] = value
    return found


def reachable(scenario, **members):
    """The temperatures that a policy may draw there, lowest and highest."""
    envelope = ENVELOPES[scenario].leaning(features(**members))
    return envelope.lower, envelope.upper


def test_translation_of_fast_speech_is_warmer():
    """Its coolest choice rises with the speech rate; the warmest stays."""
    slow, fast = reachable("translation"), reachable("translation", speech_rate=1.0)

    assert fast == (pytest.approx(slow[0] + 0.3), slow[1])


def test_translation_dense_with_terms_is_cooler_however_fast():
    """Its warmest choice falls with the density of terms, which wins over speech."""
    dense = reachable("translation", terminology_density=1.0)
    both = reachable("translation", terminology_density=1.0, speech_rate=1.0)

    assert dense[1] < reachable("translation", terminology_density=0.2)[1] < 0.8
    assert both[1] == dense[1] <= 0.3


@settings(max_examples=100, deadline=None)
@given(
    scenario=st.sampled_from(list(ENVELOPES)),
    speech_rate=st.floats(0, 1),
    terminology_density=st.floats(0, 1),
)
def test_no_speaker_leads_out_of_an_envelope(scenario, **speaker):
    """A range that leans stays inside the scenario's and holds its static temperature."""
    base, leaning = ENVELOPES[scenario], ENVELOPES[scenario].leaning(features(**speaker))

    assert base.lower <= leaning.lower < leaning.upper <= base.upper
    assert leaning.lower <= leaning.static_temperature <= leaning.upper
    assert scenario == "translation" or leaning == base


def test_recommendations_explore_for_a_new_user_and_are_precise_for_a_valued_one():
    """Whatever is drawn for the one is warmer than whatever is drawn for the other."""
    new, valued = reachable("recommendation_new_user"), reachable("recommendation_valued_user")
    usual = reachable("recommendation")

    assert valued[1] < new[0]
    assert valued[0] < usual[0] < new[0]
    assert valued[1] < usual[1] < new[1]


def test_labels_are_short_and_never_warm():
    """Classification has the lowest ceiling of all, and the lowest token cap."""
    others = [each for each in ENVELOPES.values() if each.scenario != "classification"]
    own = ENVELOPES["classification"]

    assert own.upper <= 0.5
    assert own.upper < min(each.upper for each in others)
    assert own.token_cap < min(each.token_cap for each in others)


def test_code_stays_cooler_than_prose():
    """What must parse is drawn below what may surprise, and may be long."""
    code, prose = ENVELOPES["code"], ENVELOPES["generation"]

    assert code.upper < prose.static_temperature + 0.1
    assert code.static_temperature < prose.lower
    assert code.token_cap == prose.token_cap


def test_dialogue_is_mild():
    """Never greedy, which repeats itself, and never hot; between code and prose."""
    own = ENVELOPES["dialogue"]

    assert own.lower >= 0.2
    assert ENVELOPES["code"].upper < own.upper < ENVELOPES["generation"].upper


def test_a_guard_fills_its_gaps_from_another():
    """Members that the user left out are the policy's; members set are the user's."""
    merged = Guard(top_p=0.9, top_n_sigma=2.0).or_else(Guard(top_n_sigma=1.0, min_p=0.05))

    assert merged == Guard(top_n_sigma=2.0, min_p=0.05, top_p=0.9)
