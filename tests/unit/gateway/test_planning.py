"""Which plan decodes when the controller's does not come."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import limits
from services.gateway.asking import Ask, Context, Prompt
from services.gateway.decoding import (
    Constraints,
    DynatempProgram,
    EdtProgram,
    FixedProgram,
    Guard,
    Mode,
    Plan,
    PlanSource,
    ResidualProgram,
    Sampling,
    TemperatureRange,
)
from services.gateway.planning import (
    DEFAULT_CHOICE,
    Choice,
    PlanMemory,
    draw_seed,
    fallback_plan,
    is_reusable,
    merged_guard,
    mode_of,
    seeded,
)

temperatures = st.floats(0.1, 2.0)
programs = st.one_of(
    st.builds(FixedProgram, temperatures),
    st.builds(EdtProgram, temperatures, st.floats(0.01, 10)),
    st.builds(DynatempProgram, temperatures, st.floats(0, 2), st.floats(0.01, 10)),
    st.builds(ResidualProgram, temperatures, st.floats(-10, 10), st.floats(0, 20), st.floats(0, 2)),
)
guards = st.builds(
    Guard,
    top_n_sigma=st.none() | st.floats(0.01, 10),
    min_p=st.none() | st.floats(0.01, 1),
    top_p=st.none() | st.floats(0.01, 1),
    top_k=st.none() | st.integers(1, 1_000_000),
)
ranges = st.tuples(temperatures, temperatures).map(lambda t: TemperatureRange(min(t), max(t)))
constraints = st.builds(
    Constraints,
    temperature=st.none() | st.just(0.0) | temperatures,
    guard=guards,
    max_tokens=st.integers(0, 4096),
    seed=st.none() | st.integers(0, 2**64 - 1),
    temperature_range=st.none() | ranges,
)


def plan(**members):
    """A plan of the policy."""
    base = Plan(
        source=PlanSource.POLICY,
        sampling=Sampling(FixedProgram(0.9), Guard(min_p=0.05)),
        seed=1,
        decision_id="dec-1",
        policy_version=3,
        token_budget=256,
        task="code",
        scenario="code",
    )
    return replace(base, **members)


@given(own=constraints, program=programs, guard=guards)
def test_the_users_own_values_always_win(own, program, guard):
    """Whatever the choice, every value of the user is in the fallback."""
    made = fallback_plan(own, Choice(program, guard, 99))

    if own.temperature is not None:
        assert made.sampling.program == FixedProgram(own.temperature)
        assert made.source is PlanSource.PINNED
    else:
        assert made.source is PlanSource.FALLBACK
    assert own.seed is None or made.seed == own.seed
    assert made.token_budget == (own.max_tokens or 99)
    for name in ("top_n_sigma", "min_p", "top_p", "top_k"):
        wanted = getattr(own.guard, name)
        assert getattr(made.sampling.guard, name) == (
            getattr(guard, name) if wanted is None else wanted
        )


@given(own=constraints, program=programs, guard=guards)
def test_a_fallback_is_always_valid_and_never_learned_from(own, program, guard):
    """Its members are inside the contract's ranges and it names no decision."""
    made = fallback_plan(own, Choice(program, guard))

    limits.check_program(made.sampling.program, "program")
    limits.check_guard(made.sampling.guard, "guard")
    assert (made.decision_id, made.policy_version, made.explored) == ("", 0, False)


@given(narrowed=ranges, program=programs)
def test_a_narrowed_envelope_holds_for_fallbacks(narrowed, program):
    """No temperature that the program can reach lies above the range; none starts below it."""
    own = Constraints(temperature_range=narrowed)
    made = fallback_plan(own, Choice(program, Guard())).sampling.program
    spread = made.range if isinstance(made, DynatempProgram | ResidualProgram) else 0.0
    middle = made.base_temperature if isinstance(made, EdtProgram) else made.temperature

    assert narrowed.minimum - 1e-9 <= middle - spread
    assert middle + spread <= narrowed.maximum + 1e-9


def test_memory_prefers_scenario_then_task_then_default():
    """What was asked for by name weighs most."""
    memory = PlanMemory()
    memory.remember(Constraints(), plan())

    assert memory.recall("code").program == FixedProgram(0.9)
    assert memory.recall("dialogue", "code").token_budget == 256
    assert memory.recall("dialogue", "chat") == DEFAULT_CHOICE
    assert memory.recall() == DEFAULT_CHOICE


@pytest.mark.parametrize(
    ("own", "members"),
    [
        (Constraints(guard=Guard(top_p=0.5)), {}),
        (Constraints(max_tokens=3), {}),
        (Constraints(temperature_range=TemperatureRange(0.1, 0.2)), {}),
        (Constraints(temperature=0.5), {"source": PlanSource.PINNED}),
        (Constraints(), {"source": PlanSource.FALLBACK}),
    ],
)
def test_one_users_wishes_are_not_remembered_for_others(own, members):
    """A plan that carries a user's own values is no choice of the policy."""
    memory = PlanMemory()
    memory.remember(own, plan(**members))

    assert not is_reusable(own, plan(**members))
    assert memory.recall("code", "code") == DEFAULT_CHOICE


def test_memory_is_bounded():
    """A controller that invents scenarios fills no memory."""
    memory = PlanMemory(capacity=4)
    for number in range(100):
        memory.remember(Constraints(), plan(scenario=f"s{number}", task=""))

    assert len(memory._choices) == 4
    assert memory.recall("s99").program == FixedProgram(0.9)
    assert memory.recall("s1") == DEFAULT_CHOICE


@given(own=guards, other=guards)
def test_merging_guards_keeps_what_the_user_set(own, other):
    """Merging is idempotent and an empty wish changes nothing."""
    merged = merged_guard(own, other)

    assert merged_guard(own, merged) == merged
    assert merged_guard(Guard(), other) == other


@pytest.mark.parametrize(
    ("members", "own", "expected"),
    [
        ({}, Constraints(), "apply"),
        ({"source": PlanSource.STATIC, "policy_temperature": 0.5}, Constraints(), "observe"),
        ({"source": PlanSource.STATIC}, Constraints(), "bypass"),
        ({"source": PlanSource.FALLBACK}, Constraints(), ""),
        ({"source": PlanSource.PINNED}, Constraints(mode=Mode.OBSERVE), "observe"),
    ],
)
def test_the_mode_is_told_by_the_source(members, own, expected):
    """The wire has no mode in a plan; its source tells as much as is known."""
    assert mode_of(own, plan(**members)) == expected


def test_seeds_survive_json():
    """A drawn seed is a whole number that every JSON reader keeps."""
    assert all(0 <= draw_seed() < 2**53 for _ in range(100))


def test_one_seed_holds_for_everything_an_ask_is_decoded_by():
    """Drawn once, before anything is sent; the user's own stays, also where it is 0."""
    ask = Ask(Context("r"), Prompt("Hello"), "/route")
    drawn = seeded(ask)
    assert 0 <= drawn.constraints.seed < 2**53
    assert seeded(drawn) is drawn
    assert fallback_plan(drawn.constraints, DEFAULT_CHOICE).seed == drawn.constraints.seed
    own = replace(ask, constraints=Constraints(seed=0))
    assert seeded(own).constraints.seed == 0
