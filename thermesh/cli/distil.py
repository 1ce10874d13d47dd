"""`thermesh distil`: a smaller file that was taught by the model it came from."""

from __future__ import annotations

import argparse

from thermesh.cli import quantize

HELP = "train a smaller file, a light path or gates, with the model as teacher"
MODULE = "services.inference.distil"
"""Run as a process of its own: it needs torch, which this command does not load."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Leave all arguments to the module, --help included."""
    quantize.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Become the module: signals and the exit status are its own."""
    return quantize.become(MODULE, arguments.arguments)
