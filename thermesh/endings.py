"""How work ends that does not simply end when it is cancelled.

What gRPC does has to be let end by itself: grpc.aio frees the operations of a batch when
whoever awaits them gets the result. Where that is cancelled they stay allocated for good
(grpc/grpc#43360): about half a kilobyte for a unary call under way, a hundred bytes for a read.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

M = TypeVar("M")

_END: Any = object()

REPEAT_SECONDS = 0.2
"""How long a task that was cancelled may take before it is cancelled again."""


async def cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel `tasks`, which run until then, and return once all have ended.

    Once is not enough: before Python 3.12 `asyncio.wait_for` loses a cancellation that comes in
    the moment in which its work is done (python/cpython#86296), and redis-py sends every command
    by it. A loop would go on for good, and so would its process.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=REPEAT_SECONDS)


def reading(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler with its requests read so that no read is cancelled.

    The first is read while the handler begins.
    """

    @functools.wraps(inner)
    def serve(requests: Any, context: Any) -> Any:
        return inner(_messages(left_to_end(anext(requests, _END)), requests), context)

    return serve


async def _messages(first: Awaitable[Any], requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    message = await first
    while message is not _END:
        yield message
        message = await left_to_end(anext(requests, _END))


async def until(over: asyncio.Event, messages: AsyncIterator[M]) -> AsyncIterator[M]:
    """Yield `messages` until they end or `over` is set.

    For a stream that has no end of its own, where a server that stops would wait for it.
    """
    stopped = asyncio.create_task(over.wait(), name="until")
    try:
        while not stopped.done():
            read = asyncio.ensure_future(anext(messages, _END))
            read.add_done_callback(_hear)  # one under way when it is over ends with its call
            await asyncio.wait((read, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not read.done() or (message := read.result()) is _END:
                return
            yield cast("M", message)
    finally:
        stopped.cancel()


def left_to_end(work: Awaitable[Any]) -> Awaitable[Any]:
    """Return what waits for `work` and, when cancelled, leaves it to end by itself, unheard.

    `work` must have an end of its own: that of its call, or a timeout. A call on a trunk is
    returned as it is: it leaves nothing in gRPC, and a task and two turns of the loop are spared.
    """
    if getattr(work, "leaves_nothing", False):
        return work
    task = asyncio.ensure_future(work)
    task.add_done_callback(_hear)
    return asyncio.shield(task)


def _hear(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()  # else asyncio tells that nobody took it
