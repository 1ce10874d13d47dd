"""Memory from the system itself, in huge pages where it has them.

A step walks all weights and the whole context; with pages of 4 kB, most of
the time would go into address translation, in virtual machines above all.
"""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import numpy.typing as npt

_LINE = 64
_SLAB_BYTES = 64 << 20


def anonymous(byte_count: int, *, in_huge_pages: bool = True) -> npt.NDArray[np.uint8]:
    """Return zeros that become resident where they are written to.

    What is written here and there, a little at a time, should not be in huge pages:
    each would become resident as a whole.
    """
    mapped = mmap.mmap(-1, byte_count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if in_huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, dtype=np.uint8)


def lines(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Return [rows, columns] float32, not initialised, from the beginning of a cache line on."""
    room = np.empty(rows * columns + _LINE // 4, np.float32)
    start = -room.ctypes.data % _LINE // 4
    return room[start : start + rows * columns].reshape(rows, columns)


class Arena:
    """Pieces of memory side by side, for as long as this object lives.

    Nobody need know beforehand how much it will be: what is mapped and not written to
    takes nothing.
    """

    def __init__(self, slab_bytes: int = _SLAB_BYTES) -> None:
        self._slab_bytes = slab_bytes
        self._slabs: list[npt.NDArray[np.uint8]] = []
        self._end = 0
        self.taken_bytes = 0

    def take(self, byte_count: int) -> int:
        """Return the address of so many bytes, at the beginning of a cache line."""
        room = -(-byte_count // _LINE) * _LINE
        if not self._slabs or self._end + room > self._slabs[-1].nbytes:
            self._slabs.append(anonymous(max(room, self._slab_bytes)))
            self._end = 0
        address: int = self._slabs[-1].ctypes.data + self._end
        self._end += room
        self.taken_bytes += room
        return address
