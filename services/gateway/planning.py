"""Which plan decodes a request when the controller's is late, and what is learned from good ones.

Rules: the user's own values always win; beneath them stands the last good plan
of the same scenario (else of the same task), beneath that one default. Nothing
here waits: a fallback is made from memory, whatever the rest of the mesh does.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, replace

from services.gateway.asking import Ask
from services.gateway.decoding import (
    Constraints,
    DynatempProgram,
    EdtProgram,
    FixedProgram,
    Guard,
    Mode,
    Plan,
    PlanSource,
    Program,
    ResidualProgram,
    Sampling,
    TemperatureRange,
)

MAX_REMEMBERED = 64
"""Scenarios and tasks are a dozen; the bound is against a controller that invents them."""

MAX_SEED = 2**53 - 1
"""Largest whole number that JSON readers keep exactly (RFC 8259, section 6)."""


@dataclass(frozen=True)
class Choice:
    """What a policy chooses for itself, without the user's own values."""

    program: Program
    guard: Guard
    token_budget: int = 0


# A middling temperature behind the guard whose kept set no temperature changes
# (arXiv 2411.07641): sensible for any task, best for none.
DEFAULT_CHOICE = Choice(FixedProgram(0.7), Guard(top_n_sigma=1.0))


class PlanMemory:
    """The last good choice of each scenario and task, bounded, least recent dropped."""

    def __init__(self, default: Choice = DEFAULT_CHOICE, capacity: int = MAX_REMEMBERED) -> None:
        self._default = default
        self._capacity = capacity
        self._choices: OrderedDict[str, Choice] = OrderedDict()

    def remember(self, constraints: Constraints, plan: Plan) -> None:
        """Keep what the policy chose, where the choice was the policy's alone."""
        if not is_reusable(constraints, plan):
            return
        choice = Choice(plan.sampling.program, plan.sampling.guard, plan.token_budget)
        for key in filter(None, (f"scenario:{plan.scenario}", f"task:{plan.task}")):
            self._choices[key] = choice
            self._choices.move_to_end(key)
        while len(self._choices) > self._capacity:
            self._choices.popitem(last=False)

    def recall(self, scenario: str = "", task: str = "") -> Choice:
        """Return the last good choice of the scenario, else of the task, else the default."""
        keys = [f"scenario:{scenario}"] if scenario else []
        keys += [f"task:{task}"] if task else []
        found = (self._choices[key] for key in keys if key in self._choices)
        return next(found, self._default)


def is_reusable(constraints: Constraints, plan: Plan) -> bool:
    """Tell whether a plan says something of the policy and nothing of one user's wishes."""
    return (
        plan.source in (PlanSource.POLICY, PlanSource.STATIC)
        and constraints.guard == Guard()
        and constraints.temperature_range is None
        and constraints.max_tokens == 0
    )


def seeded(ask: Ask) -> Ask:
    """Return `ask` with a seed: its own, else one that is drawn here, once for good.

    What decodes until the plan comes, the plan, and its fallback then have one seed. A
    plan that comes amid tokens would else change it, and nobody could replay the answer.
    """
    if ask.constraints.seed is not None:
        return ask
    return replace(ask, constraints=replace(ask.constraints, seed=draw_seed()))


def fallback_plan(constraints: Constraints, choice: Choice, task: str = "") -> Plan:
    """Return the plan for a request that the controller did not decide in time.

    Nothing can be learned of it, so it has no decision id. A pinned temperature
    is the user's choice with or without a controller and keeps that source:
    inference then lets nobody steer it.
    """
    source = PlanSource.PINNED if constraints.pinned else PlanSource.FALLBACK
    return Plan(
        source=source,
        sampling=merged_sampling(constraints, choice),
        seed=draw_seed() if constraints.seed is None else constraints.seed,
        token_budget=constraints.max_tokens or choice.token_budget,
        task=task,
        scenario=constraints.scenario,
    )


def merged_sampling(constraints: Constraints, choice: Choice) -> Sampling:
    """Return the choice with the user's own values laid over it."""
    return Sampling(
        program=_program(constraints, choice.program),
        guard=merged_guard(constraints.guard, choice.guard),
        penalties=constraints.penalties,
        logit_bias=constraints.logit_bias,
    )


def merged_guard(own: Guard, other: Guard) -> Guard:
    """Return the user's guard members, the other's where the user set none."""
    members = ("top_n_sigma", "min_p", "top_p", "top_k")
    set_by_user = {name: getattr(own, name) for name in members if getattr(own, name) is not None}
    return replace(other, **set_by_user)


def mode_of(constraints: Constraints, plan: Plan) -> str:
    """Return the mode a plan was made in, as far as its source tells; empty: unknown."""
    if plan.source is PlanSource.POLICY:
        return Mode.APPLY.value
    if plan.source is PlanSource.STATIC:
        return (Mode.OBSERVE if plan.policy_temperature else Mode.BYPASS).value
    return constraints.mode.value if constraints.mode else ""


def draw_seed() -> int:
    """Return a seed that survives JSON."""
    return random.randint(0, MAX_SEED)


def _program(constraints: Constraints, chosen: Program) -> Program:
    if constraints.program is not None:
        return constraints.program
    if constraints.temperature is not None:
        return FixedProgram(constraints.temperature)
    if constraints.temperature_range is not None:
        return _narrowed(chosen, constraints.temperature_range)
    return chosen


def _narrowed(program: Program, allowed: TemperatureRange) -> Program:
    if isinstance(program, EdtProgram):
        return replace(program, base_temperature=_clamped(program.base_temperature, allowed))
    if isinstance(program, DynatempProgram | ResidualProgram):
        middle = _clamped(program.temperature, allowed)
        room = min(middle - allowed.minimum, allowed.maximum - middle)
        return replace(program, temperature=middle, range=min(program.range, room))
    return FixedProgram(_clamped(program.temperature, allowed))


def _clamped(temperature: float, allowed: TemperatureRange) -> float:
    return min(max(temperature, allowed.minimum), allowed.maximum)
