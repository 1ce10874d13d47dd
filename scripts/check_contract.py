"""Fail where `protos/` breaks the contract of an earlier commit.

`buf breaking` compares with the files of that commit. Where the commit or its
protos do not exist (the first commit, a shallow clone) nothing can be broken,
and we say so.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONTRACT = ("protos", "buf.yaml")


def extract(commit: str, target: pathlib.Path) -> bool:
    """Put the contract of `commit` into `target`; False where it has none."""
    archive = target / "contract.tar"
    command = ["git", "archive", f"--output={archive}", commit, *CONTRACT]
    if subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.DEVNULL).returncode:
        return False
    with tarfile.open(archive) as files:
        files.extractall(target, filter="data")
    archive.unlink()
    return True


def buf() -> str:
    """Return the path of buf: beside this Python, as pip puts it, or on PATH."""
    beside = pathlib.Path(sys.executable).with_name("buf")
    return str(beside) if beside.exists() else shutil.which("buf") or "buf"


def main() -> int:
    """Compare; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="HEAD~1", help="commit with the contract to keep")
    commit = parser.parse_args().against
    with tempfile.TemporaryDirectory() as folder:
        if not extract(commit, pathlib.Path(folder)):
            print(f"{commit} has no contract to compare with")
            return 0
        return subprocess.run(
            [buf(), "breaking", f"--against={folder}"], cwd=ROOT, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
