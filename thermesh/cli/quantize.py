"""`thermesh quantize`: a smaller file of a model, with fewer bits where they are missed least."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from thermesh.cli import mesh
from thermesh.errors import FailedPrecondition

HELP = "make a model smaller, bits given where they are missed most"
MODULE = "services.inference.quantise"
"""Run as a process of its own: it needs torch, which this command does not load."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Leave all arguments to the module, --help included."""
    # No option starts with this character, so all are passed on as they are.
    parser.prefix_chars = "\0"
    parser.add_argument("arguments", nargs=argparse.REMAINDER)


def run(arguments: argparse.Namespace) -> int:
    """Become the module: signals and the exit status are its own."""
    return become(MODULE, arguments.arguments)


def become(module: str, arguments: list[str]) -> int:
    """Run a module of the engine in place of this process; never returns."""
    if importlib.util.find_spec("services.inference") is None:
        raise FailedPrecondition("the engine is not installed: pip install 'thermesh[inference]'")
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execve(sys.executable, command, mesh.with_source_tree(os.environ))  # noqa: S606
