"""Compile the C++ kernels: `python -m services.inference.kernels.cpu.build`.

Needs nothing but a C++17 compiler that understands GNU options: `$CXX`, or the
system's `c++`, `g++` or `clang++`. The package's build calls this too
(`hatch_build.py` loads this file by its path, so it imports the standard
library only). Each tier is compiled for its own processors and chosen when the
library is loaded, so a build is good for every machine of its architecture.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

HERE = pathlib.Path(__file__).parent
SOURCES = HERE / "csrc"
LIBRARY = HERE / "libthermesh_kernels.so"
TIMEOUT_SECONDS = 600

_COMMON = (
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    # Additions keep their order and no product is fused unless the source says
    # so: a row's bits must not depend on how many rows are computed with it.
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
    # False alarms from GCC 12's own intrinsics.
    "-Wno-maybe-uninitialized",
    "-Wno-uninitialized",
)
_AVX512 = (
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"),
    *("-mfma", "-mf16c"),
)
_TIERS = {
    "attention_amx.cpp": (*_AVX512, "-mamx-tile", "-mamx-int8"),
    "attention_amx_bfloat16.cpp": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
    "tier_amx.cpp": (*_AVX512, "-mamx-tile", "-mamx-int8"),
    "tier_amx_bfloat16.cpp": (*_AVX512, "-mamx-tile", "-mamx-bf16"),
    "tier_avx512.cpp": _AVX512,
    "tier_avx512_prompts.cpp": _AVX512,
    "tier_bfloat16.cpp": (*_AVX512, "-mavx512bf16"),
    "tier_avx2.cpp": ("-mavx2", "-mfma", "-mf16c"),
}
_SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class BuildFailed(Exception):
    """There is no compiler, or it refused; the message says which."""


def compiler() -> list[str]:
    """Return the command of the C++ compiler; raise BuildFailed without one."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise BuildFailed("no C++ compiler found: install g++ or clang++, or set CXX")


def source_hash() -> str:
    """Return a hash of the sources, by which a stale library is recognised."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def build(library: pathlib.Path = LIBRARY, *, sanitize: bool = False) -> pathlib.Path:
    """Compile `library` and return its path; raise BuildFailed with the reason.

    `sanitize` compiles in the address and undefined-behaviour sanitizers, whose
    runtime the loading process must preload.
    """
    command = [*compiler(), *_COMMON, *(_SANITIZERS if sanitize else ("-O3",))]
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if is_x86:
        command.append("-DTHERMESH_X86")
    command.append(f'-DTHERMESH_SOURCES="{source_hash()}"')
    with tempfile.TemporaryDirectory() as folder:
        objects = [
            _compile(command, path, pathlib.Path(folder))
            for path in sorted(SOURCES.glob("*.cpp"))
            if is_x86 or path.name not in _TIERS
        ]
        # Linked beside its place and moved: a running process keeps the old file.
        linked = pathlib.Path(folder) / library.name
        _run([*command, "-shared", "-pthread", *objects, "-o", str(linked)])
        shutil.copy(linked, library.with_suffix(".new"))
    library.with_suffix(".new").replace(library)
    return library


def _compile(command: Sequence[str], source: pathlib.Path, folder: pathlib.Path) -> str:
    target = str(folder / f"{source.stem}.o")
    _run([*command, *_TIERS.get(source.name, ()), "-c", str(source), "-o", target])
    return target


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"the compiler refused:\n{error.stderr[-4000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"the compiler did not run: {error}") from error


def main() -> int:
    """Build in place."""
    try:
        path = build()
    except BuildFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"built {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
