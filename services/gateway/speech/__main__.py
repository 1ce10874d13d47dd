"""One session's speech process: `python -m services.gateway.speech`, started by the gateway."""

from __future__ import annotations

import os
import signal
import sys

from services.gateway.speech.worker import Worker


def main() -> None:
    """Serve on the pipes; what libraries print goes to the log instead of the gateway."""
    # The terminal's interrupt is the gateway's affair; it closes the pipe when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        Worker(sys.stdin.buffer, sink).run()
    except BrokenPipeError:
        return
    finally:
        os._exit(0)  # engines' threads hold nothing that must be put away


if __name__ == "__main__":
    main()
