"""Run a command that cannot outlive the process that started it.

    python -I -S lifeline.py PARENT_PID COMMAND [ARGUMENT ...]

The kernel is asked to kill this process when the thread that made it ends
(prctl(2), PR_SET_PDEATHSIG, Linux), then the command takes its place. The
setting survives exec, so a supervisor killed with -9 leaves nobody behind.
Doing it here and not between fork and exec of the supervisor keeps code out of
a place where, beside other threads, nearly nothing may run. On systems without
prctl the command just runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before the kernel knew
        sys.exit("the supervisor is gone")
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
