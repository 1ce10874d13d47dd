"""Temperature programs, both ways."""

from __future__ import annotations

from services.inference.sampling import settings as sampling
from thermesh.errors import InvalidArgument
from thermesh.v1 import common_pb2


def program(message: common_pb2.TemperatureProgram, path: str) -> sampling.Program:
    """Read a temperature program; raise InvalidArgument where its kind is not set."""
    match message.WhichOneof("kind"):
        case "fixed":
            return sampling.Fixed(message.fixed.temperature)
        case "edt":
            return sampling.Edt(message.edt.base_temperature, message.edt.theta)
        case "dynatemp":
            dynatemp = message.dynatemp
            return sampling.Dynatemp(dynatemp.temperature, dynatemp.range, dynatemp.exponent)
        case "residual":
            residual = message.residual
            return sampling.Residual(
                residual.temperature, residual.slope, residual.centre, residual.range
            )
    raise InvalidArgument(f"{path} must be one of fixed, edt, dynatemp, residual", field=path)


def program_message(value: sampling.Program) -> common_pb2.TemperatureProgram:
    """Write a temperature program."""
    match value:
        case sampling.Fixed(temperature):
            fixed = common_pb2.FixedProgram(temperature=temperature)
            return common_pb2.TemperatureProgram(fixed=fixed)
        case sampling.Edt(base, theta):
            edt = common_pb2.EdtProgram(base_temperature=base, theta=theta)
            return common_pb2.TemperatureProgram(edt=edt)
        case sampling.Dynatemp(temperature, width, exponent):
            dynatemp = common_pb2.DynatempProgram(
                temperature=temperature, range=width, exponent=exponent
            )
            return common_pb2.TemperatureProgram(dynatemp=dynatemp)
        case sampling.Residual(temperature, slope, centre, width):
            residual = common_pb2.ResidualProgram(
                temperature=temperature, slope=slope, centre=centre, range=width
            )
            return common_pb2.TemperatureProgram(residual=residual)
