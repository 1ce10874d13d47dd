"""`thermesh models`: the packaged models, on this machine and in their wheels."""

from __future__ import annotations

import argparse

from thermesh import models
from thermesh.cli import console
from thermesh.errors import NotFound

HELP = "list, fetch and verify the packaged models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `models`."""
    parser.description = __doc__
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, action in (("list", show), ("fetch", fetch), ("verify", verify)):
        command = actions.add_parser(name, help=action.__doc__, description=action.__doc__)
        if name != "list":
            command.add_argument("name", nargs="*", help="a packaged model (default: all)")
        command.set_defaults(action=action)


def run(arguments: argparse.Namespace) -> int:
    """Do the action asked for; return the exit status."""
    return int(arguments.action(arguments))


def show(_arguments: argparse.Namespace) -> int:
    """List the packaged models and whether they are in the cache."""
    rows = [
        (
            model.name,
            "present" if models.present(model.name) else "absent",
            f"{model.size_bytes / 1e6:.0f} MB",
            model.licence,
            f"{model.summary} ({model.requirement})",
        )
        for model in models.MODELS.values()
    ]
    print(f"model cache: {models.models_dir()}\n{console.table(rows)}")
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch models through pip into the cache."""
    for name in _names(arguments):
        with console.progress(name) as progress:
            path = models.fetch(name, progress)
        print(f"{name}: {path}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Check size and SHA-256 of the files in the cache."""
    faults = {name: models.faults(name) for name in _names(arguments)}
    for name, found in faults.items():
        print(f"{name}: {'as published' if not found else '; '.join(found)}")
    return int(any(faults.values()))


def _names(arguments: argparse.Namespace) -> list[str]:
    unknown = [name for name in arguments.name if name not in models.MODELS]
    if unknown:
        raise NotFound(f"expected one of {', '.join(models.MODELS)}, got {unknown[0]!r}")
    return list(arguments.name or models.MODELS)
