"""Generate the stubs of `clients/` from `protos/`; `--check` fails where they differ.

    python scripts/gen_client_stubs.py typescript   after `npm ci` in clients/typescript
    python scripts/gen_client_stubs.py go           with protoc-gen-go and protoc-gen-go-grpc

protoc is that of the pinned grpcio-tools; the plugins write their versions into
what they generate, so that stubs are compared only with those of the same plugin.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.resources
import pathlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
# What a client speaks with, and what those files import; rooms' own services stay out.
FILES = ("chat", "common", "controller", "feature", "feedback")
GO_PACKAGE = "thermesh/clients/go/thermeshv1"
TS_OPTIONS = (
    "env=node,esModuleInterop=true,importSuffix=.js,outputServices=grpc-js,oneof=unions-value,"
    # Seeds use all 64 bits, which a number of JavaScript cannot hold.
    "forceLong=bigint,outputJsonMethods=false,useExactTypes=false"
)


@dataclass(frozen=True)
class Language:
    """Where stubs of one language stand and how protoc is asked for them."""

    folder: pathlib.Path
    plugins: tuple[str, ...]
    options: tuple[str, ...]


def _go_options(plugin: str) -> tuple[str, ...]:
    names = (f"--{plugin}_opt=Mthermesh/v1/{name}.proto={GO_PACKAGE}" for name in FILES)
    return (*names, f"--{plugin}_opt=module={GO_PACKAGE}")


LANGUAGES = {
    "typescript": Language(
        ROOT / "clients/typescript/src/gen",
        ("ts_proto",),
        (
            f"--plugin=protoc-gen-ts_proto={ROOT}/clients/typescript/node_modules/.bin/protoc-gen-ts_proto",
            f"--ts_proto_opt={TS_OPTIONS}",
        ),
    ),
    "go": Language(
        ROOT / "clients/go/thermeshv1",
        ("go", "go-grpc"),
        (*_go_options("go"), *_go_options("go-grpc")),
    ),
}


def generate(language: Language, target: pathlib.Path) -> None:
    """Write the stubs of a language below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{well_known}"]
    command += [f"--{plugin}_out={target}" for plugin in language.plugins]
    sources = [str(PROTOS / f"thermesh/v1/{name}.proto") for name in FILES]
    subprocess.run([*command, *language.options, *sources], check=True)


def contents(folder: pathlib.Path) -> set[pathlib.Path]:
    """Return the files below a folder, relative to it."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def drift(language: Language) -> list[str]:
    """Return the names of stubs that differ from what `protos/` gives."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = pathlib.Path(folder)
        generate(language, fresh)
        names = sorted(map(str, contents(fresh) | contents(language.folder)))
        same, _, _ = filecmp.cmpfiles(fresh, language.folder, names, shallow=False)
    return sorted(set(names) - set(same))


def main() -> int:
    """Generate or check; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=LANGUAGES)
    parser.add_argument("--check", action="store_true", help="fail on drift, write nothing")
    arguments = parser.parse_args()
    language = LANGUAGES[arguments.language]
    if not arguments.check:
        shutil.rmtree(language.folder, ignore_errors=True)
        generate(language, language.folder)
        return 0
    differing = drift(language)
    if differing:
        print(f"{', '.join(differing)} differ from protos/: run `make client-stubs`")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
