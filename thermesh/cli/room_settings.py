"""The settings of all rooms that are installed, asked of them in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import Any

from thermesh.cli import console, mesh
from thermesh.errors import FailedPrecondition
from thermesh.settings import BadSetting

CONFIGS = ("thermesh.cli.config", "thermesh.telemetry")
ROOM_CONFIGS = tuple(f"services.{room}.config" for room in (*mesh.ROOMS, "gateway"))


def settings() -> list[dict[str, Any]]:
    """Return every setting of the command line and of the rooms that are installed."""
    asked = [*CONFIGS, *(name for name in ROOM_CONFIGS if _is_installed(name))]
    command = [sys.executable, "-P", "-m", "thermesh.cli.settings_probe", *asked]
    environ = mesh.with_source_tree(os.environ)
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:]
        raise FailedPrecondition(f"the settings cannot be read: {''.join(last)}")
    return list(json.loads(answer.stdout))


def bad(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings whose value is not allowed, each variable once."""
    return list({one["variable"]: one for one in listed if one["problem"]}.values())


def table(listed: list[dict[str, Any]], *, everything: bool) -> str:
    """Return the settings as a table: those that are set, or all."""
    distinct = {one["variable"]: one for one in reversed(listed)}
    rows = [
        (variable, shown(one["value"] or one["default"] or "(empty)"), one["documentation"])
        for variable, one in sorted(distinct.items())
        if everything or one["value"]
    ]
    return (
        console.table([("setting", "value", "meaning"), *rows]) if rows else "  settings: defaults"
    )


def shown(value: str) -> str:
    """Return a value fit to print: without the user and password that a URL may carry."""
    return re.sub(r"://[^@/]*@", "://***@", value)


def check() -> None:
    """Raise BadSetting where a value of any room's setting is not allowed."""
    if found := bad(settings()):
        raise BadSetting("; ".join(str(one["problem"]) for one in found))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
