"""How many cores a step should use."""

from __future__ import annotations

import os
import pathlib

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def physical_cores() -> int:
    """Return the physical cores this process may run on.

    Two threads of one core share its arithmetic units: using both slows a
    memory-bound step down. Where the system does not tell, logical ones count.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(_logical())
    siblings = {_siblings(core) for core in allowed}
    return max(1, len(siblings))


def _logical() -> int:
    return os.cpu_count() or 1


def _siblings(core: int) -> str:
    try:
        return pathlib.Path(_TOPOLOGY.format(core)).read_text()
    except OSError:
        return str(core)
