"""Settings of the kernels."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import one_of, setting


@dataclass(frozen=True)
class KernelsConfig:
    """What the environment may change; see `thermesh.settings`."""

    kernels: str = setting(
        "THERMESH_KERNELS",
        "auto",
        one_of("auto", "cpu", "reference"),
        "arithmetic: C++ on the CPU, plain torch, or the fastest that fits the model",
    )
    tier: str = setting(
        "THERMESH_KERNELS_TIER",
        "",
        one_of("", "avx512-vnni", "avx2", "generic"),
        "instruction set of the C++ kernels; empty: the best of this processor",
    )
