"""Memory that is taken before a step needs it, by a thread beside the steps.

The system gives memory when it is first written to, and zeroes it then. In a virtual
machine the host does so as well: 2 MB took 5 ms. All streams that began together
need new pages in the same step, which was so twice as long as the others.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_LEAST_PRIORITY = 19


class Ahead:
    """Takes pieces of something, each once, on a thread that gives way to all others,
    where the system has priorities for threads; `take` is called there.
    """

    def __init__(self, take: Callable[[int], None]) -> None:
        self._take = take
        self._asked: set[int] = set()
        self._worker: ThreadPoolExecutor | None = None

    def ask(self, pieces: Iterable[int]) -> None:
        """Have pieces taken soon, in this order, those that nobody asked for before."""
        for piece in pieces:
            if piece in self._asked:
                continue
            self._worker = self._worker or ThreadPoolExecutor(
                1, thread_name_prefix="memory-ahead", initializer=_give_way
            )
            self._worker.submit(self._take, piece)
            self._asked.add(piece)


def _give_way() -> None:
    # Elsewhere than on Linux a thread's number is no process's.
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)
