"""The contract, its comments and its stubs belong together."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

from thermesh import semconv


def run(root: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment in the root."""
    return subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)


def test_stubs_are_those_of_the_protos(root):
    """Generating thermesh/v1 again changes nothing."""
    result = run(root, sys.executable, "scripts/gen_protos.py", "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_rpc_message_and_field_is_commented(root):
    """`buf lint` holds the contract to STANDARD and COMMENTS."""
    buf = pathlib.Path(sys.executable).with_name("buf")
    result = run(root, str(buf), "lint")
    assert result.returncode == 0, result.stdout + result.stderr


def test_contract_is_compared_with_an_earlier_one(root):
    """A commit compared with itself breaks nothing; one that does not exist cannot be broken."""
    for commit in ("HEAD", "no-such-commit"):
        result = run(root, sys.executable, "scripts/check_contract.py", "--against", commit)
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_telemetry_name_stands_once():
    """No two constants of the registry carry one name: a metric or attribute has one meaning."""
    names = [value for value in vars(semconv).values() if isinstance(value, str) and "." in value]
    names = [name for name in names if name.startswith(("thermesh.", "gen_ai.", "rpc."))]
    assert names
    assert sorted(names) == sorted(set(names))


def test_telemetry_names_are_written_only_in_the_registry(product):
    """Code names metrics and attributes by the registry's constants, never by a literal."""
    registry = {value for value in vars(semconv).values() if isinstance(value, str)}
    literals = {
        f"{name}:{node.lineno}"
        for name, tree in product.items()
        if name != "thermesh/semconv.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and node.value in registry
        and str(node.value).startswith(("thermesh.", "gen_ai.", "rpc."))
    }
    assert literals == set()
