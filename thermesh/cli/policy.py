"""`thermesh policy`: the versions of the decoding policy, and how far it is trusted."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from thermesh import rpc, wire
from thermesh.cli import console
from thermesh.cli.config import UpConfig
from thermesh.settings import from_env
from thermesh.v1 import common_pb2, controller_pb2, controller_pb2_grpc

HELP = "list, show, promote and roll back policies; set the mode of a route"
TIMEOUT_SECONDS = 10.0
MODES = ("observe", "apply", "bypass", "unspecified")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `policy`."""
    parser.description = __doc__
    parser.add_argument("--controller", metavar="HOST:PORT", help="the controller's gRPC door")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = _action(actions, "list", list_policies)
    listing.add_argument("--limit", type=int, default=20)
    showing = _action(actions, "show", show)
    showing.add_argument("version", type=int, nargs="?", default=0, help="default: the live one")
    promoting = _action(actions, "promote", promote)
    promoting.add_argument("version", type=int)
    for changing in (promoting, _action(actions, "rollback", rollback)):
        changing.add_argument(
            "--expect", type=int, default=0, metavar="VERSION", help="refuse if another is live"
        )
    mode = _action(actions, "mode", set_mode)
    mode.add_argument("route", help="e.g. /v1/chat/completions; * is every route without its own")
    mode.add_argument("mode", choices=MODES, help="unspecified removes the route's own")


def run(arguments: argparse.Namespace) -> int:
    """Do the action asked for; return the exit status."""
    config = from_env(UpConfig)
    target = arguments.controller or f"{config.host}:{config.controller_port}"
    asyncio.run(_with_controller(target, arguments.action, arguments))
    return 0


async def list_policies(controller: Any, arguments: argparse.Namespace) -> None:
    """List the stored versions, newest first."""
    request = controller_pb2.ListPoliciesRequest(limit=arguments.limit)
    answer = await controller.ListPolicies(request, timeout=TIMEOUT_SECONDS)
    heading = ("version", "live", "kind", "reason", "parent", "feedback", "published")
    print(console.table([heading, *map(_row, answer.policies)]))
    print(_modes(answer.modes))


async def show(controller: Any, arguments: argparse.Namespace) -> None:
    """Show one version with its parameters as JSON."""
    request = controller_pb2.GetPolicyRequest(version=arguments.version)
    answer = await controller.GetPolicy(request, timeout=TIMEOUT_SECONDS)
    print(console.table([_row(answer.policy)]))
    print(answer.parameters_json)


async def promote(controller: Any, arguments: argparse.Namespace) -> None:
    """Make the parameters of a stored version live under a new version."""
    request = controller_pb2.PromotePolicyRequest(
        version=arguments.version, expected_live_version=arguments.expect
    )
    answer = await controller.PromotePolicy(request, timeout=TIMEOUT_SECONDS)
    print(f"version {answer.policy.version} is live")


async def rollback(controller: Any, arguments: argparse.Namespace) -> None:
    """Go back to the parameters before the live version."""
    request = controller_pb2.RollbackPolicyRequest(expected_live_version=arguments.expect)
    answer = await controller.RollbackPolicy(request, timeout=TIMEOUT_SECONDS)
    print(f"version {answer.policy.version} is live")


async def set_mode(controller: Any, arguments: argparse.Namespace) -> None:
    """Say how far the policy is trusted on a route."""
    mode = wire.number(common_pb2.Mode, arguments.mode, "MODE_", "mode")
    request = controller_pb2.SetModeRequest(route=arguments.route, mode=mode)
    print(_modes((await controller.SetMode(request, timeout=TIMEOUT_SECONDS)).modes))


def _action(actions: Any, name: str, action: Callable[..., Any]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=action.__doc__, description=action.__doc__
    )
    parser.set_defaults(action=action)
    return parser


async def _with_controller(
    target: str,
    action: Callable[[Any, argparse.Namespace], Awaitable[None]],
    arguments: argparse.Namespace,
) -> None:
    channel = rpc.connect(target)
    try:
        with rpc.translated():
            await action(controller_pb2_grpc.ControllerServiceStub(channel), arguments)
    finally:
        await channel.close()


def _row(policy: controller_pb2.PolicySummary) -> tuple[str, ...]:
    made = dt.datetime.fromtimestamp(policy.created_unix_ms / 1000, dt.UTC)
    return (
        str(policy.version),
        "live" if policy.live else "",
        policy.kind,
        policy.reason,
        str(policy.parent_version),
        str(policy.feedback_count),
        made.isoformat(timespec="seconds"),
    )


def _modes(modes: Any) -> str:
    named = [
        f"{route} {wire.word(common_pb2.Mode, mode, 'MODE_')}" for route, mode in modes.items()
    ]
    return f"  modes: {', '.join(named) or 'the configured default on every route'}"
