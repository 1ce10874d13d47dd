"""The spoken side of a response: its text becomes clauses, and clauses become sound."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable

from services.gateway.realtime.clauses import Clauses
from services.gateway.realtime.latency import Latency
from services.gateway.realtime.settings import Manner
from services.gateway.realtime.telling import Event, Json, Telling
from services.gateway.realtime.timeline import Timeline
from services.gateway.speech.links import Speech
from thermesh.clock import Clock

MOST_CLAUSES = 256
AUDIO_DELTA = "response.output_audio.delta"
CUT_MS_PER_CHARACTER = 60.0
"""How long a clause that was cut off would have been; what was made of it is shorter."""

SpeechOf = Callable[[], Awaitable[Speech]]


class Mouth:
    """Speaks one answer: `run` it, `feed` it, `end` it; after `hush` it says nothing more."""

    def __init__(
        self,
        speech_of: SpeechOf,
        manner: Manner,
        *,
        place: Json,
        telling: Telling,
        latency: Latency,
        clock: Clock,
    ) -> None:
        self.timeline = Timeline()
        self._speech_of = speech_of
        self._manner = manner
        self._place = place
        self._telling = telling
        self._latency = latency
        self._clock = clock
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue(MOST_CLAUSES)
        self._cutter = Clauses()
        self._unsaid = 0
        self._is_hushed = False
        self._is_over = False

    def left_ms(self, heard_ms: float) -> float:
        """Return how much speech is left to be heard; inf while more is being made, 0 where
        none will be any more.
        """
        if self._is_over:
            return 0.0
        return float("inf") if self._unsaid else self.timeline.length_ms - heard_ms

    async def feed(self, text: str) -> None:
        """Take more of the answer."""
        await self._take(self._cutter.feed(text))

    async def end(self) -> None:
        """Take that the answer is whole."""
        await self._take(self._cutter.rest())
        await self._clauses.put(None)

    async def hush(self) -> None:
        """Say nothing more, at once."""
        self._is_hushed = True
        await (await self._speech_of()).hush()

    async def run(self) -> None:
        """Speak clause after clause, up to the end."""
        try:
            speech = await self._speech_of()
            while (clause := await self._clauses.get()) is not None:
                if not self._is_hushed:
                    await self._say(speech, clause)
                self._unsaid -= 1
        finally:
            # Where speech failed nothing is heard any more, and decoding must not wait for that.
            self._is_over = True

    async def _take(self, clauses: list[str]) -> None:
        if clauses and self._latency.first_clause is None:
            self._latency.first_clause = self._clock.monotonic()
        for clause in clauses:
            self._unsaid += 1
            await self._clauses.put(clause)

    async def _say(self, speech: Speech, clause: str) -> None:
        manner, length_ms = self._manner, 0.0
        spoken = speech.speak(clause.strip(), manner.kind, manner.voice, manner.speed)
        async with contextlib.aclosing(spoken) as parts:
            async for part in parts:
                if self._latency.synthesis_ms is None:
                    self._latency.synthesis_ms = part.synthesis_ms
                length_ms += part.length_ms
                delta = base64.b64encode(part.samples).decode()
                members = {**self._place, "delta": delta}
                await self._telling.tell(Event(AUDIO_DELTA, members, length_ms=part.length_ms))
        if self._is_hushed:
            length_ms = max(length_ms, CUT_MS_PER_CHARACTER * len(clause))
        self.timeline.add(clause, length_ms)
