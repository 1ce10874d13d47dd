"""The client without asyncio: the same words, from any thread.

    with MeshClient("127.0.0.1:50050") as mesh:
        for event in mesh.converse("What is the capital of France?"):
            if isinstance(event, Tokens):
                print(event.text, end="")

One background thread runs the asyncio client; every method waits for it there.
Any thread may call any method at any time, e.g. steer or cancel an answer that
another one reads. Ctrl-C interrupts a wait and ends the answer that was read.
Made in one process, a client must not be used in one forked from it, as gRPC.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from thermesh import wire
from thermesh.client import conversation, mesh
from thermesh.errors import FailedPrecondition
from thermesh.events import (
    Event,
    FeedbackReceipt,
    Guard,
    Model,
    Options,
    Penalties,
    Program,
)
from thermesh.tls import Trust

__all__ = ["Conversation", "MeshClient"]

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._submitting = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="thermesh-client", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and return its result; whatever interrupts the wait cancels it."""
        with self._submitting:
            if self._is_closed:
                work.close()
                raise FailedPrecondition("the client is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise FailedPrecondition("the client was closed meanwhile") from error
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run `last`, then end the loop and its thread; harmless when repeated."""
        with self._submitting:
            if self._is_closed:
                last.close()
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._finish(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self, last: Coroutine[Any, Any, None]) -> None:
        """Run `last`, and end what other threads still wait for."""
        await last
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


class Conversation:
    """One turn: iterate over it for its events, once; steer it from any thread meanwhile."""

    def __init__(self, loop: _Loop, inner: conversation.Conversation) -> None:
        self._loop = loop
        self._inner = inner
        self._reading = asyncio.Lock()

    def __iter__(self) -> Iterator[Event]:
        """Yield the events of the turn; raise a MeshError where it failed."""
        events: Any = aiter(self._inner)
        try:
            while (event := self._loop.run(self._next(events))) is not None:
                yield event
        finally:
            with contextlib.suppress(FailedPrecondition):  # closing the client ended it
                self._loop.run(self._close(events))

    def update(
        self,
        *,
        program: Program | None = None,
        guard: Guard | None = None,
        penalties: Penalties | None = None,
        token_budget: int | None = None,
    ) -> int:
        """Change parameters at the next token; return the update's id."""
        return self._loop.run(
            self._inner.update(
                program=program, guard=guard, penalties=penalties, token_budget=token_budget
            )
        )

    def append(self, text: str, *, is_final: bool) -> None:
        """Bring the user's words so far, where the turn began with `awaiting_input`."""
        self._loop.run(self._inner.append(text, is_final=is_final))

    def credit(self, tokens: int) -> None:
        """Allow `tokens` more, in [1, 65536]."""
        self._loop.run(self._inner.credit(tokens))

    def interrupt(self, heard_tokens: int) -> None:
        """End the answer because the user spoke: only `heard_tokens` of it count."""
        self._loop.run(self._inner.interrupt(heard_tokens))

    def cancel(self) -> None:
        """End the answer; `End` with finish_reason `cancelled` follows."""
        self._loop.run(self._inner.cancel())

    def close(self) -> None:
        """Drop the call at once, without waiting for its end."""

        async def close() -> None:
            self._inner.close()

        self._loop.run(close())

    async def _next(self, events: Any) -> Event | None:
        """Return the next event, None at the end: StopIteration cannot cross a future."""
        async with self._reading:
            event: Event | None = await anext(events, None)
            return event

    async def _close(self, events: Any) -> None:
        """End the turn, once a read that was interrupted is over."""
        async with self._reading:
            await events.aclose()


class MeshClient:
    """A client of one mesh; the arguments are those of `thermesh.client.MeshClient`."""

    def __init__(
        self,
        target: str = "127.0.0.1:50050",
        *,
        api_key: str = "",
        tenant: str = "",
        timeout: float | None = None,
        trust: Trust | None = None,
        retries: int = 2,
    ) -> None:
        self._loop = _Loop()

        async def connect() -> mesh.MeshClient:
            return mesh.MeshClient(
                target,
                api_key=api_key,
                tenant=tenant,
                timeout=timeout,
                trust=trust,
                retries=retries,
            )

        try:
            self._inner = self._loop.run(connect())
        except BaseException:
            self._loop.close(_nothing())
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is open, in whatever thread, and close the channel."""
        self._loop.close(self._inner.close())

    def converse(
        self, messages: wire.Messages, options: Options | None = None, **more: Any
    ) -> Conversation:
        """Ask for an answer to `messages`, as `thermesh.client.MeshClient.converse`."""

        async def begin() -> conversation.Conversation:
            return self._inner.converse(messages, options, **more)

        return Conversation(self._loop, self._loop.run(begin()))

    def models(self) -> tuple[Model, ...]:
        """Return what can be asked for, the default first."""
        return self._loop.run(self._inner.models())

    def feedback(
        self,
        decision_id: str,
        score: float,
        *,
        feedback_id: str = "",
        signal: str = "explicit",
        comment: str = "",
    ) -> FeedbackReceipt:
        """Say how good an answer was: `score` in [-1, 1]; counts once per `feedback_id`."""
        return self._loop.run(
            self._inner.feedback(
                decision_id, score, feedback_id=feedback_id, signal=signal, comment=comment
            )
        )

    def feedback_state(self, feedback_id: str) -> FeedbackReceipt:
        """Return what became of feedback."""
        return self._loop.run(self._inner.feedback_state(feedback_id))


async def _nothing() -> None:
    pass
