"""`thermesh bench`: measurements that anyone can repeat on a machine of their own."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from thermesh.cli import mesh
from thermesh.errors import FailedPrecondition

HELP = "measure engine, features, doors under load, or how policies decode"
BENCHES = {
    "engine": "benchmarks.engine",
    "features": "benchmarks.features",
    "load": "benchmarks.load",
    "policy": "benchmarks.policy",
}
"""Each a module that is run as a process of its own: it may know the services."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benches; whatever follows is the bench's own, --help included."""
    parser.description = __doc__
    names = parser.add_subparsers(required=True, metavar="BENCH")
    for name, module in BENCHES.items():
        # No option starts with this character, so all are passed on as they are.
        bench = names.add_parser(name, help=f"run {module}", prefix_chars="\0", add_help=False)
        bench.add_argument("arguments", nargs=argparse.REMAINDER)
        bench.set_defaults(bench=name)


def run(arguments: argparse.Namespace) -> int:
    """Become the bench: signals and the exit status are its own."""
    module = BENCHES[arguments.bench]
    if importlib.util.find_spec("services.inference") is None:
        raise FailedPrecondition("the engine is not installed: pip install 'thermesh[inference]'")
    command = [sys.executable, "-P", "-m", module, *arguments.arguments]
    os.execve(sys.executable, command, mesh.with_source_tree(os.environ))  # noqa: S606
