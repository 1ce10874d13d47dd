"""Who may import whom."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

# The wire ends here: these modules of a room see protobuf messages and grpc. A
# room whose `wire` does not fit one module has a package of that name, one with
# two services a `feedback_server` beside its `server`.
SHELLS = ("server", "wire", "__main__")

# Modules, or packages of modules, that call another room for their own room's
# logic, which reaches them behind a Protocol.
LINKS = {
    "services/gateway/mesh": "the gateway's calls to the three rooms behind it",
    "services/inference/service": "the room's parts wired by hand, for __main__ and for tests",
    "services/inference/outcomes": "the spool that reports outcomes to the controller",
    "services/inference/steer": "the stream that steers running sequences",
}

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys

package, start, *refused = sys.argv[1:]

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise AssertionError(name + " was imported")

sys.meta_path.insert(0, Refuse())
room = importlib.import_module(package)
for module in pkgutil.walk_packages(room.__path__, package + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
importlib.import_module(start)
"""


def imported_modules(tree: ast.Module) -> set[str]:
    """Full names of the modules that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def speaks_grpc(tree: ast.Module) -> bool:
    """Whether a file imports grpc, a part of it, or the stubs."""
    return any(
        name.startswith("grpc") or f"{name}.".startswith("thermesh.v1.")
        for name in imported_modules(tree)
    )


def may_speak_grpc(name: str) -> bool:
    """Whether a file of a room is one of its shells or links."""
    path = pathlib.PurePosixPath(name).with_suffix("")
    room, *below = path.parts[1:]
    is_shell = below[0].rpartition("_")[2] in SHELLS or below[0] in SHELLS or below[-1] in SHELLS
    return is_shell or f"services/{room}/{below[0]}" in LINKS


def test_logic_knows_nothing_of_the_wire(product):
    """Inside a room only its shells and the links listed above import grpc or the stubs."""
    speaking = {name for name, tree in product.items() if speaks_grpc(tree)}
    rooms = {name for name in speaking if name.startswith("services/")}
    assert {name for name in rooms if not may_speak_grpc(name)} == set()


def test_no_module_imports_from_the_tests(product):
    """What runs never imports a test, nor the tools that only tests install."""
    tools = {"pytest", "hypothesis", "openai", "transformers", "tests"}
    found = {
        name: tools & {module.partition(".")[0] for module in imported_modules(tree)}
        for name, tree in product.items()
    }
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_import_laws_hold(root):
    """The contracts of import-linter in pyproject.toml hold, indirect imports included."""
    linter = pathlib.Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=root, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "room", "refused"),
    [
        ("services.controller", "services.controller", ["torch"]),
        ("services.gateway", "services.gateway", ["torch"]),
        ("services.inference.bridge", "services.inference", ["torch", "numpy", "tokenizers"]),
    ],
    ids=["controller", "gateway", "bridge"],
)
def test_small_rooms_load_nothing_large(root, package, room, refused):
    """Importing every module imports no torch, a bridge's not even numpy, nor does a library."""
    command = [sys.executable, "-c", IMPORT_EVERYTHING, package, f"{room}.__main__", *refused]
    result = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
