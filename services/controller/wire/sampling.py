"""Programs, guards and penalties as protobuf messages, to values and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.controller import checks
from services.controller.sampling import (
    Dynatemp,
    Edt,
    Fixed,
    Guard,
    Penalties,
    Program,
    Residual,
    Sampling,
)
from thermesh.v1 import common_pb2


def program(message: common_pb2.TemperatureProgram, field: str) -> Program:
    """Read a temperature program."""
    kind = message.WhichOneof("kind")
    if kind == "fixed":
        value = message.fixed.temperature
        return Fixed(checks.temperature_or_greedy(value, f"{field}.fixed.temperature"))
    if kind == "edt":
        return Edt(
            checks.temperature(message.edt.base_temperature, f"{field}.edt.base_temperature"),
            checks.above_zero(message.edt.theta, 10, f"{field}.edt.theta"),
        )
    if kind == "dynatemp":
        return Dynatemp(
            checks.temperature(message.dynatemp.temperature, f"{field}.dynatemp.temperature"),
            checks.within(message.dynatemp.range, 0, 2, f"{field}.dynatemp.range"),
            checks.above_zero(message.dynatemp.exponent, 10, f"{field}.dynatemp.exponent"),
        )
    if kind == "residual":
        return Residual(
            checks.temperature(message.residual.temperature, f"{field}.residual.temperature"),
            checks.within(message.residual.slope, -10, 10, f"{field}.residual.slope"),
            checks.within(message.residual.centre, 0, 20, f"{field}.residual.centre"),
            checks.within(message.residual.range, 0, 2, f"{field}.residual.range"),
        )
    raise checks.refused(f"{field}.kind", "not set", "fixed, edt, dynatemp or residual")


def guard(message: common_pb2.Guard, field: str) -> Guard:
    """Read a guard; members that are not set stay None."""
    limits = {"top_n_sigma": 10.0, "min_p": 1.0, "top_p": 1.0}
    members: dict[str, Any] = {
        name: checks.above_zero(getattr(message, name), limit, f"{field}.{name}")
        for name, limit in limits.items()
        if message.HasField(name)
    }
    if message.HasField("top_k"):
        members["top_k"] = int(checks.within(message.top_k, 1, 1_000_000, f"{field}.top_k"))
    return Guard(**members)


def penalties(message: common_pb2.Penalties, field: str) -> Penalties:
    """Read penalties; a repetition of 0 is read as 1."""
    return Penalties(
        repetition=checks.above_zero(message.repetition or 1.0, 10, f"{field}.repetition"),
        presence=checks.within(message.presence, -2, 2, f"{field}.presence"),
        frequency=checks.within(message.frequency, -2, 2, f"{field}.frequency"),
    )


def logit_bias(message: Mapping[int, float], field: str) -> dict[int, float]:
    """Read the biases of a request."""
    if len(message) > 1024:
        raise checks.refused(field, f"{len(message)} long", "at most 1024 long")
    for token_id, bias in message.items():
        checks.within(token_id, 0, 2**31 - 1, f"{field} token id")
        checks.within(bias, -100, 100, f"{field}[{token_id}]")
    return dict(message)


def sampling(value: Sampling) -> common_pb2.Sampling:
    """Write everything the sampler needs."""
    members = {
        name: getattr(value.guard, name)
        for name in ("top_n_sigma", "min_p", "top_p", "top_k")
        if getattr(value.guard, name) is not None
    }
    return common_pb2.Sampling(
        program=program_message(value.program),
        guard=common_pb2.Guard(**members),
        penalties=penalties_message(value.penalties),
        logit_bias=dict(value.logit_bias),
    )


def program_message(value: Program) -> common_pb2.TemperatureProgram:
    """Write a temperature program."""
    message = common_pb2.TemperatureProgram()
    if isinstance(value, Fixed):
        message.fixed.temperature = value.temperature
    elif isinstance(value, Edt):
        message.edt.base_temperature, message.edt.theta = value.base_temperature, value.theta
    elif isinstance(value, Dynatemp):
        message.dynatemp.temperature = value.temperature
        message.dynatemp.range, message.dynatemp.exponent = value.range, value.exponent
    else:
        message.residual.temperature, message.residual.range = value.temperature, value.range
        message.residual.slope, message.residual.centre = value.slope, value.centre
    return message


def penalties_message(value: Penalties) -> common_pb2.Penalties:
    """Write penalties."""
    return common_pb2.Penalties(
        repetition=value.repetition, presence=value.presence, frequency=value.frequency
    )
