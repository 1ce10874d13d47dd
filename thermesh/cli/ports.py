"""The ports of the mesh: chosen, and checked before anything starts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from thermesh.cli.config import UpConfig
from thermesh.errors import AlreadyExists


@dataclass(frozen=True)
class Port:
    """One port to listen on and the variable that sets it."""

    name: str
    variable: str
    number: int


def chosen(config: UpConfig) -> tuple[Port, ...]:
    """Return the ports of the mesh, each 0 replaced by a free one.

    Raise AlreadyExists where one is taken, or named twice.
    """
    asked = (
        Port("gateway (HTTP)", "THERMESH_GATEWAY_HTTP_PORT", config.gateway_http_port),
        Port("gateway (gRPC)", "THERMESH_GATEWAY_GRPC_PORT", config.gateway_grpc_port),
        Port("feature", "THERMESH_FEATURE_PORT", config.feature_port),
        Port("controller", "THERMESH_CONTROLLER_PORT", config.controller_port),
        Port("inference", "THERMESH_INFERENCE_PORT", config.inference_port),
        *(() if config.redis_url else (Port("redis", "THERMESH_REDIS_PORT", config.redis_port),)),
    )
    check_distinct(asked)
    with contextlib.ExitStack() as held:  # all at once, or two could get the same free port
        return tuple(_bindable(port, config.host, held) for port in asked)


def check_distinct(ports: tuple[Port, ...]) -> None:
    """Raise AlreadyExists where two of `ports` have one number (0 is no number)."""
    owners: dict[int, Port] = {}
    for port in ports:
        other = owners.setdefault(port.number, port)
        if port.number and other is not port:
            raise AlreadyExists(
                f"{other.variable} and {port.variable} are both {port.number}:"
                " each service needs a port of its own",
                field=port.variable,
            )


def environment(ports: tuple[Port, ...]) -> Mapping[str, str]:
    """Return the variables that tell every room these ports."""
    return {port.variable: str(port.number) for port in ports}


def _bindable(port: Port, host: str, held: contextlib.ExitStack) -> Port:
    # redis is bound to the loopback whatever the mesh is bound to.
    address = "127.0.0.1" if port.name == "redis" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    probe = held.enter_context(socket.socket(family))
    # As servers do, so that connections lingering in TIME_WAIT are no obstacle.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address, port.number))
    except OSError as error:
        raise AlreadyExists(
            f"port {port.number} for {port.name} cannot be used on {address}"
            f" ({error.strerror}): stop what uses it or set {port.variable} to another port"
            " (0: any free one)",
            field=port.variable,
            reason="PORT_TAKEN",
        ) from error
    return Port(port.name, port.variable, int(probe.getsockname()[1]))
