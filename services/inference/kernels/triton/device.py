"""Whether the Triton kernels can run here, found out without importing them.

Triton decides when a kernel is declared whether it will be compiled or
interpreted, by the variable TRITON_INTERPRET. Interpreted kernels take CPU
tensors and are some thousand times too slow to serve anyone: they are for
tests. So they count as available only where the variable asks for them. Without a
driver of NVIDIA torch is not asked either: to import it takes a second and 180 MB.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from dataclasses import dataclass

OLDEST_CAPABILITY = (8, 0)
"""Ampere: the first with bfloat16 in its matrix units."""


@dataclass(frozen=True)
class Status:
    """Whether the kernels run, on what, and what that can do."""

    available: bool
    reason: str
    """Why not; empty where they are available."""
    device: str = ""
    """`cuda`, or `cpu` for the interpreter."""
    name: str = ""
    """Of the device, as its driver says."""
    memory_bytes: int = 0
    has_fp8: bool = False
    """Whether its matrix units multiply FP8: `torch._scaled_mm` by rows needs 9.0."""
    count: int = 0
    """Devices of this process."""


def is_interpreted() -> bool:
    """Tell whether the environment asks for Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET", "") in {"1", "true", "on"}


def status() -> Status:
    """Look at Triton and the first device."""
    if importlib.util.find_spec("triton") is None:
        return Status(False, "the package triton is not installed (it exists for Linux on x86-64)")
    if is_interpreted():
        return Status(True, "", "cpu", "Triton's interpreter", count=1)
    if not _has_driver():
        return Status(False, "this machine has no driver of NVIDIA (libcuda.so.1)")
    return _of_device()


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _of_device() -> Status:
    import torch  # noqa: PLC0415  # only where there may be something for it

    if not torch.cuda.is_available():
        return Status(False, "torch sees no NVIDIA GPU")
    properties = torch.cuda.get_device_properties(0)
    capability = (properties.major, properties.minor)
    if capability < OLDEST_CAPABILITY:
        found = f"{capability[0]}.{capability[1]}"
        return Status(False, f"{properties.name} has compute capability {found}, 8.0 is needed")
    return Status(
        True,
        "",
        "cuda",
        properties.name,
        properties.total_memory,
        has_fp8=capability >= (9, 0),
        count=torch.cuda.device_count(),
    )
