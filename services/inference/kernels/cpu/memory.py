"""Memory from the system itself, in huge pages where it has them.

A step walks all weights and the whole context; with pages of 4 kB, most of
the time would go into address translation, in virtual machines above all.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import numpy.typing as npt


def anonymous(byte_count: int) -> npt.NDArray[np.uint8]:
    """Return zeros that become resident where they are written to."""
    mapped = mmap.mmap(-1, byte_count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, dtype=np.uint8)
