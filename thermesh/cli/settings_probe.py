"""Tell what the settings of modules are in this environment, as JSON.

    python -m thermesh.cli.settings_probe MODULE [MODULE ...]

The command line runs it as a process of its own to ask the services, which it
may not import. Each answer is a list of objects with the keys `module`,
`variable`, `default`, `value` (as set, null where it is not), `documentation`
and `problem` (null where there is none).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from thermesh.settings import BadSetting, describe, from_env


def settings_of(module: ModuleType, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield every setting that `module` declares, with what is wrong with its value."""
    for declared in vars(module).values():
        if dataclasses.is_dataclass(declared) and isinstance(declared, type):
            if declared.__module__ != module.__name__:
                continue
            for variable, default, documentation in describe(declared):
                value = environ.get(variable) or None
                yield {
                    "module": module.__name__,
                    "variable": variable,
                    "default": default,
                    "value": value,
                    "documentation": documentation,
                    "problem": problem(declared, variable, value),
                }


def problem(declared: type[Any], variable: str, value: str | None) -> str | None:
    """Return what is wrong with `value` of one variable; None where nothing is."""
    try:
        from_env(declared, {variable: value or ""})
    except BadSetting as error:
        return str(error)
    return None


def main() -> None:
    """Print the settings of the modules named on the command line."""
    modules = [importlib.import_module(name) for name in sys.argv[1:]]
    print(json.dumps([one for module in modules for one in settings_of(module, os.environ)]))


if __name__ == "__main__":
    main()
