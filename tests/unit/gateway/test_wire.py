"""Values survive the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.decoding import (
    ComputePath,
    DynatempProgram,
    EdtProgram,
    FinishReason,
    FixedProgram,
    Forecast,
    Guard,
    Mode,
    Penalties,
    Plan,
    PlanSource,
    ResidualProgram,
    Sampling,
    Update,
    UpdateSource,
)
from services.gateway.feedback import FeedbackState, Signal
from services.gateway.wire import sampling
from thermesh.errors import InvalidArgument
from thermesh.features import TASKS
from thermesh.v1 import common_pb2, feedback_pb2

doubles = st.floats(allow_nan=False, allow_infinity=False)
programs = st.one_of(
    st.builds(FixedProgram, doubles),
    st.builds(EdtProgram, doubles, doubles),
    st.builds(DynatempProgram, doubles, doubles, doubles),
    st.builds(ResidualProgram, doubles, doubles, doubles, doubles),
)
guards = st.builds(
    Guard,
    top_n_sigma=st.none() | doubles,
    min_p=st.none() | doubles,
    top_p=st.none() | doubles,
    top_k=st.none() | st.integers(1, 1_000_000),
)
penalties = st.builds(Penalties, st.floats(0.1, 10), doubles, doubles)
biases = st.dictionaries(st.integers(0, 50_000), st.floats(-100, 100, width=32), max_size=4)
samplings = st.builds(Sampling, programs, guards, penalties, biases)
forecasts = st.builds(
    Forecast,
    doubles,
    st.integers(0, 2**31),
    st.integers(0, 2**31),
    doubles,
    doubles,
    st.booleans(),
    st.booleans(),
)
plans = st.builds(
    Plan,
    source=st.sampled_from(PlanSource),
    sampling=samplings,
    seed=st.integers(0, 2**64 - 1),
    decision_id=st.text(max_size=8),
    policy_version=st.integers(0, 2**63),
    token_budget=st.integers(0, 2**31),
    compute_path=st.sampled_from(ComputePath),
    task=st.sampled_from(["", *TASKS]),
    scenario=st.text(max_size=8),
    log_density=doubles,
    explored=st.booleans(),
    policy_temperature=doubles,
    forecast=st.none() | forecasts,
)
updates = st.builds(
    Update,
    update_id=st.integers(0, 2**64 - 1),
    program=st.none() | programs,
    guard=st.none() | guards,
    penalties=st.none() | penalties,
    token_budget=st.none() | st.integers(0, 2**31),
)


@settings(max_examples=30)
@given(plans)
def test_a_plan_survives(plan):
    """What is written is what is read, member by member."""
    assert sampling.plan(sampling.plan_to_wire(plan)) == plan


@settings(max_examples=30)
@given(updates)
def test_an_update_survives(update):
    """Members that are absent stay absent."""
    assert sampling.update(sampling.update_to_wire(update)) == update


def test_a_program_without_a_kind_is_refused():
    """The error names the path it was given."""
    with pytest.raises(InvalidArgument) as error:
        sampling.program(common_pb2.TemperatureProgram(), "constraints.program")

    assert error.value.field == "constraints.program"


@pytest.mark.parametrize(
    ("cls", "names", "prefix"),
    [
        (PlanSource, common_pb2.PlanSource, "PLAN_SOURCE"),
        (ComputePath, common_pb2.ComputePath, "COMPUTE_PATH"),
        (FinishReason, common_pb2.FinishReason, "FINISH_REASON"),
        (UpdateSource, common_pb2.UpdateSource, "UPDATE_SOURCE"),
        (Mode, common_pb2.Mode, "MODE"),
        (Signal, feedback_pb2.FeedbackSignal, "FEEDBACK_SIGNAL"),
        (FeedbackState, feedback_pb2.FeedbackState, "FEEDBACK_STATE"),
    ],
)
def test_enums_are_those_of_the_contract(cls, names, prefix):
    """Every value but unspecified has its member, and the other way round."""
    specified = [value for value in names.values() if value]
    members = [sampling.enum_member(cls, names, value, prefix) for value in specified]

    assert set(members) == set(cls)
    assert [sampling.enum_value(names, member, prefix) for member in members] == specified
    assert sampling.enum_member(cls, names, 0, prefix) is None
    assert sampling.enum_member(cls, names, 99, prefix) is None


def test_tasks_are_numbered_as_in_the_contract():
    """The shared tuple and the proto enum agree."""
    for number, name in enumerate(TASKS, start=1):
        assert common_pb2.Task.Name(number) == f"TASK_{name.upper()}"
        assert sampling.task(number) == name
