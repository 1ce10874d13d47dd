"""One response: a turn of the mesh, told as events, spoken where that is wanted.

A response may be begun before anybody asked for it, in a speaker's pause. What
it tells is then held, in a queue that is bounded, until `release`; if the
speaker goes on, `abandon` leaves no trace but a cancelled request. `response.created`
and the item are told at the release, everything else as it happens.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from services.gateway.asking import Ask, Role
from services.gateway.conversation import END_PATIENCE_SECONDS, Hearing
from services.gateway.decoding import FinishReason
from services.gateway.events import Ended, Event, PlanDecided, Tokens, Usage
from services.gateway.pipeline import Pipeline, Turn
from services.gateway.realtime import report
from services.gateway.realtime.channel import Channel
from services.gateway.realtime.clauses import Clauses
from services.gateway.realtime.items import Item, new_id
from services.gateway.realtime.latency import Latency
from services.gateway.realtime.settings import Manner
from services.gateway.realtime.timeline import Timeline, heard_tokens
from services.gateway.rest import extension
from services.gateway.speech.links import Speech
from thermesh.errors import Internal, MeshError

log = logging.getLogger(__name__)

MOST_HELD = 64
MOST_CLAUSES = 256
AUDIO_DELTA = "response.output_audio.delta"
CUT_MS_PER_CHARACTER = 60.0
"""How long a clause that was cut off would have been; what was made of it is shorter."""

Json = dict[str, Any]
SpeechOf = Callable[[], Awaitable[Speech]]


class Response:
    """One answer; `start`, then `release` or `abandon`.

    `hearing` followed the words while they were spoken; it is closed with the response.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        ask: Ask,
        manner: Manner,
        channel: Channel,
        *,
        speech_of: SpeechOf,
        hearing: Hearing | None = None,
    ) -> None:
        self.response_id = new_id("resp")
        timeline = Timeline()
        self.item = Item(
            new_id("item"), Role.ASSISTANT, "", manner.is_spoken, "in_progress", timeline
        )
        self.manner = manner
        self.latency = Latency(pipeline.clock.monotonic())
        self.ask = ask
        self.turn: Turn | None = None
        self.end: Ended | None = None
        self.error: MeshError | None = None
        self.reason: str | None = None
        self.pieces: list[str] = []
        self.pieces_at_cancel: int | None = None
        self.heard_at_cancel_ms = 0.0
        self._timeline = timeline
        self._sent_ms = 0.0
        self._pipeline = pipeline
        self._hearing = hearing
        self._channel = channel
        self._speech_of = speech_of
        self._previous_item_id: str | None = None
        self._released = asyncio.Event()
        self._held: asyncio.Queue[tuple[str, Json, float] | None] = asyncio.Queue(MOST_HELD)
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue(MOST_CLAUSES)
        self._cutter = Clauses()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether everything was told."""
        return self._task is not None and self._task.done()

    @property
    def heard_ms(self) -> float:
        """How much of the speech can have been played by now."""
        if self.latency.first_audio is None:
            return 0.0
        played = (self._pipeline.clock.monotonic() - self.latency.first_audio) * 1000
        return min(self._sent_ms, played)

    @property
    def is_playing(self) -> bool:
        """Whether some of the speech that was sent cannot have been played yet."""
        return self.heard_ms < self._sent_ms

    @property
    def heard_tokens(self) -> int:
        """How many tokens of the answer reached the user."""
        return heard_tokens(self.pieces, self.item.text)

    def start(self) -> None:
        """Begin to decode."""
        self._task = asyncio.create_task(self._run(), name="response")

    def release(self, previous_item_id: str | None) -> None:
        """Let the client hear of it."""
        self._previous_item_id = previous_item_id
        self._released.set()

    async def abandon(self) -> None:
        """End it without a word; also the way out when the client is gone."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_hearing()

    async def wait(self) -> None:
        """Return when everything was told."""
        if self._task:
            await asyncio.wait({self._task})

    async def cancel(self, reason: str) -> None:
        """Stop decoding and speaking at once; `response.done` tells the reason."""
        if self.reason is not None or (self.end is not None and not self.manner.is_spoken):
            return
        self.heard_at_cancel_ms = self.heard_ms
        self.reason = reason
        self.pieces_at_cancel = len(self.pieces)
        if self.turn:
            self.turn.cancel()
        if self.manner.is_spoken:
            await (await self._speech_of()).hush()

    def cut(self, audio_end_ms: float) -> None:
        """Keep of a spoken answer only what was heard until then."""
        self.item.text = self._timeline.heard(audio_end_ms).rstrip()

    async def _run(self) -> None:
        pumping = asyncio.create_task(self._pump(), name="pump")
        try:
            try:
                await self._answer()
            except MeshError as error:
                self.error = error
            except Exception:
                log.exception("answering failed unexpectedly")
                self.error = Internal("internal error; the gateway's log has the details")
            await self._held.put(None)
            await pumping
            await self._finish()
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)
            await self._stop_hearing()

    async def _stop_hearing(self) -> None:
        hearing, self._hearing = self._hearing, None
        if hearing:
            await hearing.close()

    async def _pump(self) -> None:
        """Pass on what was held, once it may be told."""
        await self._released.wait()
        await report.opening(self._channel, self, self._previous_item_id)
        while (held := await self._held.get()) is not None:
            kind, members, length_ms = held
            if kind == AUDIO_DELTA:
                if self.reason is not None:
                    continue
                if self.latency.first_audio is None:
                    self.latency.first_audio = self._pipeline.clock.monotonic()
                self._sent_ms += length_ms
            await self._channel.tell(kind, **members)

    async def _answer(self) -> None:
        features = self._hearing.features if self._hearing else None
        speaking = asyncio.create_task(self._speak(), name="speak")
        try:
            async with self._pipeline.open(self.ask, features) as turn:
                self.turn = turn
                if self.reason is not None:
                    turn.cancel()
                await self._relay(turn)
            if self.manner.is_spoken:
                await self._clause(self._cutter.rest())
                await self._clauses.put(None)
                await speaking
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _relay(self, turn: Turn) -> None:
        while self.end is None:
            event = await turn.next(END_PATIENCE_SECONDS)
            if event is None and self.reason is not None:
                event = Ended(FinishReason.CANCELLED, Usage(completion_tokens=len(self.pieces)))
            if event is not None:
                await self._pass_on(event)

    async def _pass_on(self, event: Event) -> None:
        if isinstance(event, Tokens):
            if self.reason is None:
                await self._tokens(event)
        elif isinstance(event, PlanDecided):
            told = extension.decision(self.ask, event.plan)
            await self._tell("response.content_part.added", part=self._part(""), thermesh=told)
        elif isinstance(event, Ended):
            self.end = event

    async def _tokens(self, event: Tokens) -> None:
        if self.latency.first_token is None:
            self.latency.first_token = self._pipeline.clock.monotonic()
        texts = [token.text for token in event.tokens]
        self.pieces += texts
        delta = "".join(texts)
        self.item.text += delta
        told: Json = {"delta": delta}
        if self.manner.telemetry:
            told["thermesh"] = {"tokens": [extension.token(token) for token in event.tokens]}
        if delta or self.manner.telemetry:
            await self._tell(f"response.{self.stem}.delta", **told)
        if self.manner.is_spoken:
            await self._clause(self._cutter.feed(delta))

    async def _clause(self, clauses: list[str]) -> None:
        if clauses and self.latency.first_clause is None:
            self.latency.first_clause = self._pipeline.clock.monotonic()
        for clause in clauses:
            await self._clauses.put(clause)

    @property
    def stem(self) -> str:
        """The part of the names of events that tells text from a transcript of speech."""
        return "output_audio_transcript" if self.manner.is_spoken else "output_text"

    async def _speak(self) -> None:
        if not self.manner.is_spoken:
            return
        speech = await self._speech_of()
        while (clause := await self._clauses.get()) is not None:
            if self.reason is None:
                await self._say(speech, clause)

    async def _say(self, speech: Speech, clause: str) -> None:
        manner, length_ms = self.manner, 0.0
        spoken = speech.speak(clause.strip(), manner.kind, manner.voice, manner.speed)
        async with contextlib.aclosing(spoken) as parts:
            async for part in parts:
                if self.latency.synthesis_ms is None:
                    self.latency.synthesis_ms = part.synthesis_ms
                length_ms += part.length_ms
                delta = base64.b64encode(part.samples).decode()
                await self._held.put((AUDIO_DELTA, {**self.place, "delta": delta}, part.length_ms))
        if self.reason is not None:
            length_ms = max(length_ms, CUT_MS_PER_CHARACTER * len(clause))
        self._timeline.add(clause, length_ms)

    @property
    def place(self) -> Json:
        """Where the content of this response is, as every event about it says."""
        return {
            "response_id": self.response_id,
            "item_id": self.item.item_id,
            "output_index": 0,
            "content_index": 0,
        }

    def _part(self, text: str) -> Json:
        if self.manner.is_spoken:
            return {"type": "audio", "transcript": text}
        return {"type": "text", "text": text}

    async def _tell(self, kind: str, **members: Any) -> None:
        await self._held.put((kind, {**self.place, **members}, 0.0))

    async def _finish(self) -> None:
        if self.reason is not None and self.manner.is_spoken:
            self.cut(self.heard_at_cancel_ms)
        is_whole = self.end is not None and self.reason is None and self.error is None
        self.item.status = "completed" if is_whole else "incomplete"
        await report.closing(self._channel, self, self._part(self.item.text))
        for stage, milliseconds in self.latency.stages().items():
            self._pipeline.instruments.voice_stage(stage, milliseconds / 1000)
