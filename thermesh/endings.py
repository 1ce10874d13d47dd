"""What gRPC does has to be let end by itself.

grpc.aio frees the operations of a batch when whoever awaits them gets the result. Where that
is cancelled they stay allocated for good (grpc/grpc#43360): about half a kilobyte for a unary call
under way, a hundred bytes for a read.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

_END = object()


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
