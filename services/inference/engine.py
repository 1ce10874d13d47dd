"""The engine thread and the two ways across to asyncio.

Commands go in through a queue under a condition, on which the thread sleeps
while there is nothing to compute. Results come out once per step: one callback
into the event loop delivers the events of all streams. The thread never waits
for the loop; a slow reader is held by its sequence's credit, not by a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from services.inference.decoding.decoder import Decoder
from services.inference.decoding.warmup import warm_up
from services.inference.events import Load, StepResult
from services.inference.limits import Limits, refuse_when_full
from services.inference.request import Request, Update
from services.inference.sequences.sequence import Sequence
from services.inference.stream import Stream
from thermesh.clock import Clock
from thermesh.errors import ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

MAX_PENDING_REVISIONS = 1024
_LONGEST_SLEEP_SECONDS = 3600.0


class Engine:
    """Decodes the requests of one model on a thread of its own.

    All methods are for the event loop that called `start`. `listeners` are
    called there with the result of every step that brought something about.
    `threads` is the number of cores that a step may use; 0 leaves it to the network.
    """

    def __init__(
        self,
        decoder: Decoder,
        limits: Limits,
        *,
        context_length: int,
        vocabulary_size: int,
        clock: Clock,
        threads: int = 0,
    ) -> None:
        self.decoder = decoder
        self.limits = limits
        self.listeners: list[Callable[[StepResult], None]] = []
        self.revisions_lost = 0
        self.token_capacity = min(context_length, decoder.scheduler.pages.total * limits.page_size)
        self._vocabulary_size = vocabulary_size
        self._clock = clock
        self._threads = threads
        self._load = decoder.load()
        self._open_streams = 0
        self._request_count = 0
        self._revisions_sent = 0  # written by the loop
        self._revisions_received = 0  # written by the thread
        self._is_draining = False
        self._is_stopping = False
        self._was_woken = False
        self._inbox: deque[Callable[[], None]] = deque()
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread; results go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def warm_up(self) -> None:
        """Take the slow first steps now; call it before the first request."""
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()
        self.post(lambda: warm_up(self.decoder, self._vocabulary_size, self.token_capacity))
        self.post(lambda: _call_soon(loop, is_done.set))
        await is_done.wait()

    async def stop(self) -> None:
        """End the thread after its current step; open streams get nothing more."""
        self._is_stopping = True
        self.wake()
        await asyncio.to_thread(self._thread.join)

    def drain(self) -> None:
        """Refuse new requests from now on; those inside go on."""
        self._is_draining = True

    def load(self) -> Load:
        """Return how busy the engine was after its last step; requests on their
        way in or out count as waiting.
        """
        waiting = max(0, self._request_count - self._load.running)
        return dataclasses.replace(self._load, waiting=waiting, open_streams=self._open_streams)

    @contextlib.contextmanager
    def stream_slot(self) -> Iterator[None]:
        """Count a handler while it is alive; refuse one more than twice the
        requests the engine can hold, as most of those only wait for `start`.
        """
        if self._open_streams >= 2 * self.limits.max_requests:
            raise ResourceExhausted("too many open streams", retry_after=1.0)
        self._open_streams += 1
        try:
            yield
        finally:
            self._open_streams -= 1

    def open(self, request: Request) -> Stream:
        """Begin a generation. Raises ResourceExhausted where the engine is
        full, Unavailable while it drains. Close the stream in `finally`.
        """
        if self._is_draining:
            raise Unavailable("the engine is shutting down", retry_after=1.0)
        # Counted on this side of the queue, so that a long step changes nothing.
        refuse_when_full(self._request_count, self.limits)
        stream = Stream(self)
        sequence = Sequence(
            request,
            stream,
            self._vocabulary_size,
            self.token_capacity - len(request.prompt_ids),
            self._clock.monotonic(),
        )
        self._request_count += 1
        self.post(lambda: self.decoder.submit(sequence))
        return stream

    def revise(self, request_id: str, update: Update) -> None:
        """Apply the controller's change to a running request, if it still runs.

        Where the thread is behind, the change is dropped and counted: the
        controller's next one is better informed.
        """
        if self._revisions_sent - self._revisions_received >= MAX_PENDING_REVISIONS:
            self.revisions_lost += 1
            return
        self._revisions_sent += 1
        self.post(lambda: self._revise(request_id, update))

    def report_every(self, tokens: int) -> None:
        """Make telemetry of a sequence after every so many of its tokens."""
        self.post(lambda: setattr(self.decoder, "report_every_tokens", max(1, tokens)))

    def post(self, command: Callable[[], None]) -> None:
        """Run `command` on the engine thread before its next step."""
        with self._condition:
            self._inbox.append(command)
            self._condition.notify()

    def wake(self) -> None:
        """Let the thread look again at what it may do."""
        with self._condition:
            self._was_woken = True
            self._condition.notify()

    # The engine thread.

    def _run(self) -> None:
        if self._threads:
            self.decoder.use_threads(self._threads)
        has_work = False
        while not self._is_stopping:
            has_work = self._turn(has_work)

    def _turn(self, has_work: bool) -> bool:
        """Take commands and one step; tell whether there is more to do.

        A method of its own, so that a sleeping thread holds on to no stream.
        """
        for command in self._commands(has_work):
            self._execute(command)
        result = self._step()
        self._load = self.decoder.load()
        if result:
            self._hand_over(result)
        return result.worked

    def _commands(self, has_work: bool) -> list[Callable[[], None]]:
        with self._condition:
            while not (has_work or self._inbox or self._was_woken):
                due = self.decoder.scheduler.wakes_at() - self._clock.monotonic()
                if due <= 0:
                    break
                self._condition.wait(min(due, _LONGEST_SLEEP_SECONDS))
            self._was_woken = False
            commands = list(self._inbox)
            self._inbox.clear()
        return commands

    def _execute(self, command: Callable[[], None]) -> None:
        try:
            command()
        except Exception:
            log.exception("a command to the engine failed")

    def _step(self) -> StepResult:
        try:
            return self.decoder.step()
        except Exception:
            log.exception("an engine step failed; all requests end")
            self.decoder.fail_all()
            return self.decoder.take_result()

    def _hand_over(self, result: StepResult) -> None:
        assert self._loop is not None
        _call_soon(self._loop, lambda: self._deliver(result))

    def _revise(self, request_id: str, update: Update) -> None:
        self._revisions_received += 1
        self.decoder.revise(request_id, update)

    # Back in the event loop.

    def _deliver(self, result: StepResult) -> None:
        self._request_count -= len(result.outcomes)
        for reader, event in result.events:
            assert isinstance(reader, Stream)
            reader.push(event)
        for listener in self.listeners:
            try:
                listener(result)
            except Exception:
                log.exception("a listener of the engine failed")


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    # The loop may be closed already when the process ends without `stop`.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
