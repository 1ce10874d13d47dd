"""Envelopes bound what the policy may do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controller.envelope import ENVELOPES, envelope_of
from services.controller.sampling import Guard
from thermesh.errors import InvalidArgument
from thermesh.features import TASKS

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


def test_a_guard_fills_its_gaps_from_another():
    """Members that the user left out are the policy's; members set are the user's."""
    merged = Guard(top_p=0.9, top_n_sigma=2.0).or_else(Guard(top_n_sigma=1.0, min_p=0.05))

    assert merged == Guard(top_n_sigma=2.0, min_p=0.05, top_p=0.9)
