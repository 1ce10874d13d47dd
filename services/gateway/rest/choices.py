"""The answers of one request, `n` to each prompt, side by side, and what they look like together.

Each turn has a decision of its own under the same constraints. They stand or
fall together: an error of one ends all, and so does a client that leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from services.gateway.admission.buckets import Quota
from services.gateway.asking import Ask
from services.gateway.backlog import MOST_EVENTS
from services.gateway.decoding import Plan
from services.gateway.events import Ended, Event, Usage
from services.gateway.pipeline import Pipeline, Turn
from services.gateway.rest import extension
from services.gateway.rest.sse import Chunk, Json
from thermesh.errors import MeshError

Numbered = tuple[int, Event]

_SEEDS = 2**64


def several(asked: Sequence[Ask], count: int) -> list[Ask]:
    """Return `count` asks like each of `asked`, whose context is the same, under ids of their own.

    Among those of one prompt a pinned seed goes up, or all answers were the same.
    """
    wanted = [_further(ask, number) for ask in asked for number in range(count)]
    return [_numbered(ask, place) for place, ask in enumerate(wanted)]


class Choices:
    """The open turns of one request, to be entered with `async with`."""

    def __init__(self, pipeline: Pipeline, asks: Sequence[Ask]) -> None:
        self._turns = [pipeline.open(ask) for ask in asks]
        self._stack = contextlib.AsyncExitStack()
        self._events: asyncio.Queue[Numbered | MeshError] = asyncio.Queue(MOST_EVENTS)
        self._relaying: list[asyncio.Task[None]] = []

    @property
    def quota(self) -> Quota | None:
        """What the tenant had left after the last turn that asked."""
        told = [turn.quota for turn in self._turns if turn.quota]
        return told[-1] if told else None

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            for turn in self._turns:
                await opening.enter_async_context(turn)
            self._stack = opening.pop_all()
        if len(self._turns) > 1:
            self._relaying = [
                asyncio.create_task(self._relay(number, turn), name="choice")
                for number, turn in enumerate(self._turns)
            ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._relaying:
            task.cancel()
        await asyncio.gather(*self._relaying, return_exceptions=True)
        await self._stack.__aexit__(kind, error, trace)

    async def next(self, patience_seconds: float | None = None) -> Numbered | None:
        """Return the next event and whose it is; None where none came within the patience.

        Raises the MeshError that ends the request.
        """
        if not self._relaying:
            event = await self._turns[0].next(patience_seconds)
            return None if event is None else (0, event)
        try:
            async with asyncio.timeout(patience_seconds):
                found = await self._events.get()
        except TimeoutError:
            return None
        if isinstance(found, MeshError):
            raise found
        return found

    async def _relay(self, number: int, turn: Turn) -> None:
        try:
            async for event in turn.events():
                await self._events.put((number, event))
        except MeshError as error:
            await self._events.put(error)


class Told(Protocol):
    """What one turn looks like to the client."""

    @property
    def plan(self) -> Plan | None:
        """The plan, once it is decided."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens counted, after the end."""
        ...

    def observe(self, event: Event) -> None:
        """Keep what `whole` needs."""
        ...

    def chunks(self, event: Event) -> Sequence[Chunk]:
        """Return what a stream sends for `event`."""
        ...

    def whole(self) -> Json:
        """Return the body of an answer that is not streamed."""
        ...

    def failure(self, error: MeshError) -> list[Json]:
        """Return what a stream says last where an error ends it."""
        ...

    def named(self, error: MeshError) -> MeshError:
        """Return `error` with its field named as the client wrote it."""
        ...


class Answers:
    """What the turns of one request look like to the client.

    `usage_chunk` makes the last chunk of a stream, where the client wants the usage.
    `to_a_prompt` answers in a row are to the same prompt.
    """

    def __init__(
        self,
        answers: Sequence[Told],
        usage_chunk: Callable[[Json], Json] | None = None,
        to_a_prompt: int = 1,
    ) -> None:
        self._answers = answers
        self._to_a_prompt = to_a_prompt
        self._usage_chunk = usage_chunk
        self._open = len(answers)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._answers)

    @property
    def is_over(self) -> bool:
        """Whether every one has ended."""
        return not self._open

    @property
    def plan(self) -> Plan | None:
        """The plan of the first, once it is decided."""
        return self._answers[0].plan

    def observe(self, number: int, event: Event) -> None:
        """Keep what `whole` needs."""
        self._answers[number].observe(event)
        self._open -= isinstance(event, Ended)

    def chunks(self, number: int, event: Event) -> Sequence[Chunk]:
        """Return the chunks that a stream sends for `event`, after the last one the usage."""
        chunks = self._answers[number].chunks(event)
        self._open -= isinstance(event, Ended)
        if self.is_over and self._usage_chunk:
            return [*chunks, self._usage_chunk(extension.usage(self._usage()))]
        return chunks

    def whole(self) -> Json:
        """Return the body of an answer that is not streamed; `thermesh` is that of the first.

        Where there are more, each choice has its own.
        """
        wholes = [answer.whole() for answer in self._answers]
        if len(wholes) == 1:
            return wholes[0]
        choices = [{**whole["choices"][0], "thermesh": whole["thermesh"]} for whole in wholes]
        return {**wholes[0], "choices": choices, "usage": extension.usage(self._usage())}

    def failure(self, error: MeshError) -> list[Json]:
        """Return what a stream says last where an error ends it."""
        return self._answers[0].failure(error)

    def named(self, error: MeshError) -> MeshError:
        """Return `error` with its field named as the client wrote it."""
        return self._answers[0].named(error)

    def _usage(self) -> Usage:
        usages = [answer.usage for answer in self._answers]
        read = usages[:: self._to_a_prompt]
        return replace(
            usages[0],
            completion_tokens=sum(one.completion_tokens for one in usages),
            prompt_tokens=sum(one.prompt_tokens for one in read),
            cached_prompt_tokens=sum(one.cached_prompt_tokens for one in read),
        )


def _further(ask: Ask, number: int) -> Ask:
    seed = ask.constraints.seed
    if seed is None or not number:
        return ask
    return replace(ask, constraints=replace(ask.constraints, seed=(seed + number) % _SEEDS))


def _numbered(ask: Ask, place: int) -> Ask:
    if not place:
        return ask
    return replace(
        ask, context=replace(ask.context, request_id=f"{ask.context.request_id}-{place}")
    )
