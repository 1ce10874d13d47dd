"""`thermesh policy`: the versions of the decoding policy, and how far it is trusted."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import pathlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from thermesh import rpc, wire
from thermesh.cli import averaging, console, policy_files, rollout
from thermesh.cli.config import UpConfig
from thermesh.settings import from_env
from thermesh.v1 import common_pb2, controller_pb2, controller_pb2_grpc

HELP = "list, try, promote, roll back, export, import, compare, average policies; set modes"
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
    _add_files(actions)
    trying = _action(actions, "try", rollout.start)
    trying.add_argument("version", type=int)
    trying.add_argument("--stage", choices=("shadow", "canary"), default="canary")
    trying.add_argument("--share", type=float, default=0.0, help="of sessions; default: 0.1")
    trying.add_argument(
        "--promotes", action="store_true", help="make it live as soon as it is shown to be better"
    )
    _action(actions, "trial", rollout.show)
    _action(actions, "stop", rollout.stop)
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
    answer = await _got(controller, arguments.version)
    print(console.table([_row(answer.policy)]))
    print(answer.parameters_json)


async def export(controller: Any, arguments: argparse.Namespace) -> None:
    """Write one version to a file."""
    answer = await _got(controller, arguments.version)
    policy_files.written(policy_files.of_answer(answer), arguments.file)
    print(f"version {answer.policy.version} is in {arguments.file}")


async def import_file(controller: Any, arguments: argparse.Namespace) -> None:
    """Store the policy of a file as a version that is not live."""
    content = policy_files.read(arguments.file)
    request = controller_pb2.ImportPolicyRequest(
        kind=content["kind"],
        parameters_json=json.dumps(content["parameters"]),
        feedback_count=int(content.get("feedback_count", 0)),
    )
    answer = await controller.ImportPolicy(request, timeout=TIMEOUT_SECONDS)
    print(f"stored as version {answer.policy.version}; it is not live")


async def diff(controller: Any, arguments: argparse.Namespace) -> None:
    """Tell how two policies differ, each a version or a file."""
    sides = [await _side(controller, each) for each in (arguments.before, arguments.after)]
    found = policy_files.differences(*sides)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for name, (before, after) in found["policies"].items():
        print(f"  {name}: {before} -> {after}")
    heading = ("parameters", "values", "changed", "largest change", "at", "rms")
    rows = [
        (
            *(name, str(each["values"]), str(each["changed"])),
            *(f"{each['largest_change']:.6g}", each["at"], f"{each['root_mean_square']:.6g}"),
        )
        for name, each in found["parameters"].items()
    ]
    print(console.table([heading, *rows]))


async def _side(controller: Any, name: str) -> dict[str, Any]:
    if name.isdigit():
        return policy_files.of_answer(await _got(controller, int(name)))
    return policy_files.read(pathlib.Path(name))


async def _got(controller: Any, version: int) -> controller_pb2.GetPolicyResponse:
    request = controller_pb2.GetPolicyRequest(version=version)
    answer: controller_pb2.GetPolicyResponse = await controller.GetPolicy(
        request, timeout=TIMEOUT_SECONDS
    )
    return answer


async def average(_: Any, arguments: argparse.Namespace) -> None:
    """Average what several sites learned from one base, all as files; asks no controller."""
    base, *sites = (policy_files.read(path) for path in (arguments.base, *arguments.sites))
    protection = averaging.Protection(arguments.clip, arguments.noise)
    # noise that can be guessed protects nobody
    content = averaging.averaged(base, sites, protection, random.SystemRandom())
    policy_files.written(content, arguments.out)
    print(f"the average of {len(sites)} sites is in {arguments.out}")


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


def _add_files(actions: Any) -> None:
    exporting = _action(actions, "export", export)
    exporting.add_argument("file", type=pathlib.Path)
    exporting.add_argument("--version", type=int, default=0, help="default: the live one")
    importing = _action(actions, "import", import_file)
    importing.add_argument("file", type=pathlib.Path)
    comparing = _action(actions, "diff", diff)
    for side in ("before", "after"):
        comparing.add_argument(side, metavar=side.upper(), help="a version or a file")
    joining = _action(actions, "average", average)
    joining.add_argument("base", type=pathlib.Path, help="the file that all sites began from")
    joining.add_argument("sites", type=pathlib.Path, nargs="+", metavar="SITE")
    joining.add_argument("--out", type=pathlib.Path, required=True)
    joining.add_argument("--clip", type=float, default=0.0, help="most that one site may differ")
    joining.add_argument("--noise", type=float, default=0.0, help="in units of clip / sites")
    comparing.add_argument("--json", action="store_true", help="for programs")


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
