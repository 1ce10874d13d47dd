"""common.proto's sampling, plan and update, both ways."""

from __future__ import annotations

import enum
from dataclasses import asdict, fields
from typing import Any, TypeVar

from services.gateway.decoding import (
    ComputePath,
    Constraints,
    DynatempProgram,
    EdtProgram,
    FixedProgram,
    Forecast,
    Guard,
    Penalties,
    Plan,
    PlanSource,
    Program,
    ResidualProgram,
    Sampling,
    Update,
)
from thermesh.errors import InvalidArgument
from thermesh.features import TASKS
from thermesh.v1 import common_pb2

Member = TypeVar("Member", bound=enum.StrEnum)


def enum_member(cls: type[Member], names: Any, value: int, prefix: str) -> Member | None:
    """Return the member that a protobuf enum value stands for.

    None where it is unspecified or from a newer contract.
    """
    try:
        return cls(names.Name(value).removeprefix(f"{prefix}_").lower())
    except ValueError:
        return None


def enum_value(names: Any, member: enum.StrEnum | None, prefix: str) -> Any:
    """Return the protobuf enum value of a member; unspecified for None."""
    text = member.value.upper() if member else "UNSPECIFIED"
    return names.Value(f"{prefix}_{text}")


def program_to_wire(program: Program) -> common_pb2.TemperatureProgram:
    """Write a temperature program."""
    if isinstance(program, FixedProgram):
        fixed = common_pb2.FixedProgram(temperature=program.temperature)
        return common_pb2.TemperatureProgram(fixed=fixed)
    if isinstance(program, EdtProgram):
        edt = common_pb2.EdtProgram(base_temperature=program.base_temperature, theta=program.theta)
        return common_pb2.TemperatureProgram(edt=edt)
    if isinstance(program, DynatempProgram):
        dynatemp = common_pb2.DynatempProgram(
            temperature=program.temperature,
            range=program.range,
            exponent=program.exponent,
        )
        return common_pb2.TemperatureProgram(dynatemp=dynatemp)
    residual = common_pb2.ResidualProgram(
        temperature=program.temperature,
        slope=program.slope,
        centre=program.centre,
        range=program.range,
    )
    return common_pb2.TemperatureProgram(residual=residual)


def program(message: common_pb2.TemperatureProgram, path: str = "program") -> Program:
    """Read a temperature program; raise InvalidArgument where its kind is not set."""
    kind = message.WhichOneof("kind")
    if kind == "fixed":
        return FixedProgram(message.fixed.temperature)
    if kind == "edt":
        return EdtProgram(message.edt.base_temperature, message.edt.theta)
    if kind == "dynatemp":
        dynatemp = message.dynatemp
        return DynatempProgram(dynatemp.temperature, dynatemp.range, dynatemp.exponent)
    if kind == "residual":
        residual = message.residual
        return ResidualProgram(
            residual.temperature, residual.slope, residual.centre, residual.range
        )
    raise InvalidArgument(f"{path} must set one of fixed, edt, dynatemp, residual", field=path)


def guard_to_wire(guard: Guard) -> common_pb2.Guard:
    """Write a guard; members that are None stay absent."""
    return common_pb2.Guard(
        top_n_sigma=guard.top_n_sigma,
        min_p=guard.min_p,
        top_p=guard.top_p,
        top_k=guard.top_k,
    )


def guard(message: common_pb2.Guard) -> Guard:
    """Read a guard; absent members are None."""
    names = ("top_n_sigma", "min_p", "top_p", "top_k")
    return Guard(**{name: getattr(message, name) for name in names if message.HasField(name)})


def penalties_to_wire(penalties: Penalties) -> common_pb2.Penalties:
    """Write penalties."""
    return common_pb2.Penalties(
        repetition=penalties.repetition,
        presence=penalties.presence,
        frequency=penalties.frequency,
    )


def penalties(message: common_pb2.Penalties) -> Penalties:
    """Read penalties; a repetition of 0 is unset and means 1."""
    return Penalties(message.repetition or 1.0, message.presence, message.frequency)


def sampling_to_wire(sampling: Sampling) -> common_pb2.Sampling:
    """Write a sampling."""
    return common_pb2.Sampling(
        program=program_to_wire(sampling.program),
        guard=guard_to_wire(sampling.guard),
        penalties=penalties_to_wire(sampling.penalties),
        logit_bias=dict(sampling.logit_bias),
    )


def sampling(message: common_pb2.Sampling) -> Sampling:
    """Read a sampling; raise InvalidArgument where the program is missing."""
    return Sampling(
        program=program(message.program),
        guard=guard(message.guard),
        penalties=penalties(message.penalties),
        logit_bias=dict(message.logit_bias),
    )


def task(value: int) -> str:
    """Return the name of a task; empty where the classifier abstained or the task is newer."""
    return TASKS[value - 1] if 1 <= value <= len(TASKS) else ""


def task_value(name: str) -> Any:
    """Return the protobuf value of a task's name."""
    return TASKS.index(name) + 1 if name in TASKS else 0


def plan_to_wire(plan: Plan) -> common_pb2.DecodingPlan:
    """Write a plan."""
    return common_pb2.DecodingPlan(
        decision_id=plan.decision_id,
        policy_version=plan.policy_version,
        source=enum_value(common_pb2.PlanSource, plan.source, "PLAN_SOURCE"),
        sampling=sampling_to_wire(plan.sampling),
        token_budget=plan.token_budget,
        compute_path=enum_value(common_pb2.ComputePath, plan.compute_path, "COMPUTE_PATH"),
        task=task_value(plan.task),
        scenario=plan.scenario,
        log_density=plan.log_density,
        explored=plan.explored,
        seed=plan.seed,
        policy_temperature=plan.policy_temperature,
        forecast=common_pb2.Forecast(**asdict(plan.forecast)) if plan.forecast else None,
    )


def forecast(message: common_pb2.Forecast) -> Forecast:
    """Read what a request was expected to cost."""
    return Forecast(**{each.name: getattr(message, each.name) for each in fields(Forecast)})


def plan(message: common_pb2.DecodingPlan) -> Plan:
    """Read a plan; raise InvalidArgument where it lacks a temperature program."""
    source = enum_member(PlanSource, common_pb2.PlanSource, message.source, "PLAN_SOURCE")
    path = enum_member(ComputePath, common_pb2.ComputePath, message.compute_path, "COMPUTE_PATH")
    return Plan(
        source=source or PlanSource.POLICY,
        sampling=sampling(message.sampling),
        seed=message.seed,
        decision_id=message.decision_id,
        policy_version=message.policy_version,
        token_budget=message.token_budget,
        compute_path=path or ComputePath.STANDARD,
        task=task(message.task),
        scenario=message.scenario,
        log_density=message.log_density,
        explored=message.explored,
        policy_temperature=message.policy_temperature,
        forecast=forecast(message.forecast) if message.HasField("forecast") else None,
    )


def update_to_wire(update: Update) -> common_pb2.ParameterUpdate:
    """Write an update; members that are None stay absent."""
    return common_pb2.ParameterUpdate(
        update_id=update.update_id,
        program=program_to_wire(update.program) if update.program else None,
        guard=guard_to_wire(update.guard) if update.guard else None,
        penalties=penalties_to_wire(update.penalties) if update.penalties else None,
        token_budget=update.token_budget,
    )


def update(message: common_pb2.ParameterUpdate) -> Update:
    """Read an update; raise InvalidArgument where a program has no kind."""
    return Update(
        update_id=message.update_id,
        program=program(message.program) if message.HasField("program") else None,
        guard=guard(message.guard) if message.HasField("guard") else None,
        penalties=penalties(message.penalties) if message.HasField("penalties") else None,
        token_budget=message.token_budget if message.HasField("token_budget") else None,
    )


def constrained_guard_to_wire(constraints: Constraints) -> common_pb2.Guard | None:
    """Write the guard members that a user pinned; absent where there are none."""
    return guard_to_wire(constraints.guard) if constraints.guard != Guard() else None
