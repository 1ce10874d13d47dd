"""An engine whose steps take a fixed time: a real gRPC server, without a model.

    python -m benchmarks.load.stub --port 50053 --step-ms 20

So that what is measured through the mesh beside what is measured here is the
mesh alone. Every sequence steps by itself: its first token is due one prefill
after it got a place, later ones a step apart. As in the real engine the first
token waits for a plan that was promised, within its grace; who waits for a
place is ordered by class and arrival; a higher class takes the place of the
newest of the lowest, which then waits in its old order and computes its prompt
again; and a full queue refuses at once.

The text of a token is the monotonic time in nanoseconds at which it was made, in
hexadecimal, so that a reader on the same machine knows how long it travelled.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from thermesh.errors import ResourceExhausted
from thermesh.process import new_event_loop
from thermesh.rpc import Server
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

SERVICE = "thermesh.v1.InferenceService"
MODEL = "stub"
PAGES = 1024


@dataclass(frozen=True)
class Pace:
    """How the engine goes. `step_seconds` 0: as fast as its readers take it."""

    step_seconds: float = 0.02
    prefill_seconds: float = 0.02
    tokens_per_message: int = 1
    places: int = 1024
    queue: int = 1024
    together: bool = False


class Seat:
    """One sequence's way to a place; `order` is by class, then arrival, least first."""

    def __init__(self, order: tuple[int, int]) -> None:
        self.order = order
        self.is_running = False
        self.given = asyncio.Event()


class Places:
    """Sequences that may run at once, and a bounded queue by class and arrival."""

    def __init__(self, places: int, queue: int) -> None:
        self._places, self._most = places, places + queue
        self._running: list[Seat] = []
        self._queue: list[Seat] = []
        self._arrivals = 0
        self.inside = 0

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request in, or raise ResourceExhausted where the engine is full."""
        if self.inside >= self._most:
            raise ResourceExhausted("the stub engine is full", retry_after=1.0)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @contextlib.contextmanager
    def seated(self, priority: int) -> Iterator[Seat]:
        """Queue up for a place, which is free again at the end of the block."""
        self._arrivals += 1
        seat = Seat((-priority, self._arrivals))
        bisect.insort(self._queue, seat, key=_order)
        self._share_out()
        try:
            yield seat
        finally:
            (self._running if seat.is_running else self._queue).remove(seat)
            self._share_out()

    def _share_out(self) -> None:
        """Give places to who is first, taking them back from lower classes."""
        while self._queue:
            if len(self._running) >= self._places:
                last = max(self._running, key=_order)
                if last.order[0] <= self._queue[0].order[0]:
                    return
                self._running.remove(last)
                last.is_running = False
                last.given.clear()
                bisect.insort(self._queue, last, key=_order)
            first = self._queue.pop(0)
            self._running.append(first)
            first.is_running = True
            first.given.set()


class Stub(inference_pb2_grpc.InferenceServiceServicer):
    """Answers as an engine does, with nothing in it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._places = Places(pace.places, pace.queue)

    async def Generate(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Say as many tokens as were asked for, each when it is due."""
        del context
        with self._places.entered():
            start = (await anext(requests)).start
            planned = asyncio.Event()
            hearing = asyncio.create_task(_hear(requests, planned))
            try:
                accepted = inference_pb2.GenerationAccepted(prompt_tokens=8, model=MODEL)
                yield inference_pb2.GenerateResponse(accepted=accepted)
                began = time.monotonic()
                with self._places.seated(start.context.priority) as seat:
                    await seat.given.wait()
                    queued = time.monotonic() - began
                    await self._prefill(start, planned)
                    async for response in self._decode(seat, start.max_tokens or 64):
                        yield response
                yield self._end(start.max_tokens or 64, queued)
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])

    async def DescribeModel(self, request: Any, context: Any) -> Any:
        """Tell what is served."""
        del request, context
        places, queue = self._pace.places, self._pace.queue
        return inference_pb2.DescribeModelResponse(
            model=MODEL, context_length=8192, max_running=places, max_waiting=queue
        )

    async def GetLoad(self, request: Any, context: Any) -> Any:
        """Tell how many are inside."""
        del request, context
        load = common_pb2.LoadReport(running=self._places.inside, kv_pages_total=PAGES)
        return inference_pb2.GetLoadResponse(load=load)

    async def _prefill(self, start: Any, planned: asyncio.Event) -> None:
        await asyncio.sleep(self._pace.prefill_seconds)
        if start.expects_plan and not planned.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(start.plan_grace_ms / 1000):
                    await planned.wait()

    async def _decode(self, seat: Seat, count: int) -> AsyncIterator[Any]:
        pace = self._pace
        step = pace.step_seconds
        due = time.monotonic()
        if pace.together:  # all sequences step at one moment
            due = (due // step + 1) * step
            await asyncio.sleep(due - time.monotonic())
        for first in range(0, count, pace.tokens_per_message):
            while not seat.is_running:
                await seat.given.wait()
                await asyncio.sleep(pace.prefill_seconds)
                due = time.monotonic()
            yield _tokens(first, min(pace.tokens_per_message, count - first))
            due += step * pace.tokens_per_message
            if step:
                await asyncio.sleep(due - time.monotonic())

    def _end(self, count: int, queued: float) -> Any:
        usage = common_pb2.Usage(
            prompt_tokens=8,
            completion_tokens=count,
            queue_time_us=round(queued * 1e6),
            prefill_time_us=round(self._pace.prefill_seconds * 1e6),
        )
        reason = common_pb2.FINISH_REASON_LENGTH
        end = common_pb2.GenerationEnd(finish_reason=reason, usage=usage, mean_temperature=0.7)
        return inference_pb2.GenerateResponse(end=end)


def is_stamp(text: str) -> bool:
    """Tell whether a text may be one of this stub's tokens."""
    return len(text) >= 9 and all(each in "0123456789abcdef" for each in text)


def made_at(text: str) -> float:
    """Return when the first token in `text` was made, on the monotonic clock in seconds."""
    return int(text.split(maxsplit=1)[0], 16) / 1e9


def _tokens(first: int, count: int) -> Any:
    text = f"{time.monotonic_ns():x} "
    tokens = [
        common_pb2.Token(
            index=first + place,
            token_id=first + place,
            text=text,
            temperature=0.7,
            entropy=1.5,
            log_probability=-0.5,
            model_log_probability=-0.4,
            step_time_us=20_000,
        )
        for place in range(count)
    ]
    return inference_pb2.GenerateResponse(tokens=common_pb2.TokenChunk(tokens=tokens))


def _order(seat: Seat) -> tuple[int, int]:
    return seat.order


async def _hear(requests: Any, planned: asyncio.Event) -> None:
    async for message in requests:
        if message.WhichOneof("message") == "plan":
            planned.set()


async def serve(port: int, pace: Pace) -> None:
    """Serve until a signal comes."""
    server = Server("stub engine", "127.0.0.1", port, grace_seconds=0.0)
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, Stub(pace), SERVICE)
    await server.start()
    await server.run_until_signal()


def main() -> None:
    """Read the pace and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--step-ms", type=float, default=20.0)
    parser.add_argument("--prefill-ms", type=float, default=20.0)
    parser.add_argument("--tokens-per-message", type=int, default=1)
    parser.add_argument("--places", type=int, default=1024)
    parser.add_argument("--queue", type=int, default=1024)
    parser.add_argument("--together", action="store_true", help="all sequences step at once")
    options = parser.parse_args()
    pace = Pace(
        options.step_ms / 1000,
        options.prefill_ms / 1000,
        options.tokens_per_message,
        options.places,
        options.queue,
        options.together,
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:  # as the real rooms do
        runner.run(serve(options.port, pace))


if __name__ == "__main__":
    main()
