"""The one thread on which the encoder runs, behind a bounded queue.

One thread, because two encodings at once on the small machine would each take
twice as long and take the core from the language model. What waits in the queue
can still be cancelled; what runs goes on and its result is kept by whoever
attached a callback.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from services.feature.encoding import Encoding

Job = tuple[str, "Future[Encoding]"]


class EncoderWorker:
    """Runs `encode` for one text after another; `waiting_limit` texts may wait."""

    def __init__(self, encode: Callable[[str], Encoding], waiting_limit: int) -> None:
        self._encode = encode
        self._jobs: queue.Queue[Job | None] = queue.Queue(waiting_limit)
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, text: str) -> Future[Encoding] | None:
        """Queue `text`; return its future, None where the queue is full."""
        future: Future[Encoding] = Future()
        try:
            self._jobs.put_nowait((text, future))
        except queue.Full:
            return None
        return future

    def close(self) -> None:
        """Cancel what waits, let what runs end, and stop the thread."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job:
                    job[1].cancel()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            text, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._encode(text))
            except Exception as error:
                future.set_exception(error)
