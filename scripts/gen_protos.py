"""Generate `thermesh/v1` from `protos/`; `--check` fails where the two differ.

The generator is pinned to the oldest grpcio the package supports
(pyproject.toml), because generated code refuses runtimes older than itself.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = pathlib.Path("thermesh/v1")
INIT = '"""Generated messages and stubs of the contract in `protos/thermesh/v1`."""\n'


def generate(target: pathlib.Path) -> None:
    """Write the stubs of every proto below `target`."""
    sources = sorted(str(path) for path in (PROTOS / STUBS).glob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    outputs = ("python", "pyi", "grpc_python")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{well_known}"]
    command += [f"--{output}_out={target}" for output in outputs]
    subprocess.run([*command, *sources], check=True)
    for path in (target / STUBS).glob("*_pb2_grpc.py"):
        if "Stub(object)" not in path.read_text():
            path.unlink()  # protoc writes an empty service file for messages alone
    (target / STUBS / "__init__.py").write_text(INIT)


def differences(fresh: pathlib.Path, kept: pathlib.Path) -> list[str]:
    """Return the names of files that differ or stand on one side only."""
    names = {path.name for folder in (fresh, kept) for path in folder.glob("*.py*")}
    same, _, _ = filecmp.cmpfiles(fresh, kept, names, shallow=False)
    return sorted(names - set(same))


def main() -> int:
    """Generate or check; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail on drift, write nothing")
    if not parser.parse_args().check:
        for stale in (ROOT / STUBS).glob("*_pb2*"):
            stale.unlink()
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(pathlib.Path(folder))
        drift = differences(pathlib.Path(folder) / STUBS, ROOT / STUBS)
    if drift:
        print(f"thermesh/v1 differs from protos/ in {', '.join(drift)}: run `make proto`")
    return int(bool(drift))


if __name__ == "__main__":
    sys.exit(main())
