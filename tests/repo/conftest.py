"""What the house rules look at."""

from __future__ import annotations

import ast
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def files(*patterns: str) -> list[pathlib.Path]:
    """Files of the project that match: tracked ones and new ones that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(path for name in set(listed.splitlines()) if (path := ROOT / name).is_file())


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The folder that holds everything."""
    return ROOT


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Every text file of the project, by its path from the root."""
    found = {}
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            found[str(path.relative_to(ROOT))] = content.decode("utf-8")
    return found


@pytest.fixture(scope="session")
def sources(texts) -> dict[str, ast.Module]:
    """Every Python file that a person wrote, parsed, by its path from the root."""
    written = {name: text for name, text in texts.items() if name.endswith(".py")}
    return {
        name: ast.parse(text, name)
        for name, text in written.items()
        if not name.startswith("thermesh/v1/")
    }


@pytest.fixture(scope="session")
def product(sources) -> dict[str, ast.Module]:
    """The sources of what runs: without tests, benchmarks, examples and scripts."""
    return {
        name: tree for name, tree in sources.items() if name.startswith(("thermesh/", "services/"))
    }
