"""The command `thermesh`."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType

from thermesh import __version__
from thermesh.cli import bench, chat, console, distil, doctor, keys, models, policy, quantize, up
from thermesh.errors import MeshError
from thermesh.settings import BadSetting

COMMANDS: dict[str, ModuleType] = {
    "up": up,
    "bench": bench,
    "chat": chat,
    "distil": distil,
    "doctor": doctor,
    "keys": keys,
    "models": models,
    "policy": policy,
    "quantize": quantize,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser("thermesh", description=sys.modules["thermesh"].__doc__)
    top.add_argument("--version", action="version", version=f"thermesh {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status: 1 when it failed, 2 when it was asked wrongly."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BadSetting as error:
        console.fail(str(error))
        return 2
    except MeshError as error:
        console.fail(error.message)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
