"""Resolve every extra and the tools together and write `constraints.txt`.

The ranges in pyproject.toml say what we support; these pins say what we last
tested, so that an install next year gets the same mesh as today. pip resolves
without installing, and starts afresh: pins already there have no say.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = """\
# What the mesh was last tested with. Written by `make constraints`; the ranges
# that we support are in pyproject.toml.
"""

# An accelerator build of torch brings these; which ones depends on where the
# wheel came from, and torch itself pins them. Triton, which tests need too, must
# be the one that torch's builds for CUDA ask for.
TORCH_PRIVATE = ("cuda-", "nvidia-", "triton")
TRITON = ("triton", "3.7.1")


def resolve() -> list[tuple[str, str]]:
    """Return (name, version) of everything pip would install, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = ",".join(project["project"]["optional-dependencies"])
    groups = [f"--group={ROOT / 'pyproject.toml'}:{name}" for name in project["dependency-groups"]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--report=-", f"{ROOT}[{extras}]", *groups]
    report = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return pins(item["metadata"] for item in json.loads(report)["install"])


def pins(resolved: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what to pin of pip's report: neither ourselves nor torch's own
    needs, and no local label such as `+cpu`, which names a build, not a version.
    """
    kept = {
        item["name"].lower().replace("_", "-"): item["version"].partition("+")[0]
        for item in resolved
        if item["name"] != "thermesh" and not item["name"].lower().startswith(TORCH_PRIVATE)
    }
    return sorted({**kept, TRITON[0]: TRITON[1]}.items())


def main() -> int:
    """Write the file; return the process's exit status."""
    lines = [f"{name}=={version}\n" for name, version in resolve()]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
