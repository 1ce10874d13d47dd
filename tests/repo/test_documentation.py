"""The reference pages say what the code says."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.engine import report
from thermesh import semconv


def test_every_setting_is_documented(root):
    """The table in docs/operations.md is the one that the declarations give."""
    command = [sys.executable, "scripts/settings_table.py", "--check"]
    result = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_telemetry_name_is_documented(texts):
    """Each metric and each attribute of our own is explained in docs/operations.md."""
    prefixes = ("thermesh.", "gen_ai.server.", "rpc.server.")
    constants = {name: value for name, value in vars(semconv).items() if name.isupper()}
    names = [value for value in constants.values() if str(value).startswith(prefixes)]
    page = texts["docs/operations.md"]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_tables_of_the_engine_are_those_of_their_samples(texts):
    """No figure on docs/benchmarks.md was typed by hand, and each machine's file is its own."""
    assert f"{report.BEGIN}\n{report.sections()}\n{report.END}" in texts["docs/benchmarks.md"]
    files = report.published()
    assert files
    assert [report.place(report.read(path)) for path in files] == files
