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
import time
from collections.abc import Callable
from concurrent.futures import Future

from services.feature.encoding import Encoding

Encode = Callable[[str], Encoding]
Job = tuple[str, "Future[Encoding]", Encode]

RECENT = 0.2
"""Weight of the newest encoding in the mean of how long they take."""


class EncoderWorker:
    """Runs `encode`, or what a job brings, for one text after another; `waiting_limit` may wait.

    `share` is how much of the time it may work for who would do without; see `is_resting`.
    """

    def __init__(self, encode: Encode, waiting_limit: int, share: float = 1.0) -> None:
        self._encode = encode
        self._jobs: queue.Queue[Job | None] = queue.Queue(waiting_limit)
        self._mean_seconds = 0.0
        self._is_running = False
        self._rest_per_second = 1.0 / share - 1.0
        self._rests_until = 0.0
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def submit(self, text: str, encode: Encode | None = None) -> Future[Encoding] | None:
        """Queue `text` for `encode`; return its future, None where the queue is full."""
        future: Future[Encoding] = Future()
        try:
            self._jobs.put_nowait((text, future, encode or self._encode))
        except queue.Full:
            return None
        return future

    @property
    def is_idle(self) -> bool:
        """Whether a text would be taken up at once."""
        return not self._is_running and self._jobs.empty()

    @property
    def is_resting(self) -> bool:
        """Whether its share of the time is spent. Then the processor is for who cannot do
        without; a text that is submitted is encoded all the same.
        """
        return time.perf_counter() < self._rests_until

    @property
    def expected_seconds(self) -> float:
        """How long a text submitted now would take, by what the last ones took; 0: unknown."""
        return (self._jobs.qsize() + self._is_running + 1) * self._mean_seconds

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
            text, future, encode = job
            if future.set_running_or_notify_cancel():
                self._work(text, future, encode)

    def _work(self, text: str, future: Future[Encoding], encode: Encode) -> None:
        self._is_running, began = True, time.perf_counter()
        try:
            encoding = encode(text)
        except Exception as error:
            self._is_running = False
            future.set_exception(error)
            return
        ended = time.perf_counter()
        took = ended - began
        self._rests_until = ended + took * self._rest_per_second
        self._mean_seconds += (RECENT if self._mean_seconds else 1.0) * (took - self._mean_seconds)
        self._is_running = False
        future.set_result(encoding)
