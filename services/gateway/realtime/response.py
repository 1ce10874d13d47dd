"""One response: a turn of the mesh, told as events, spoken where that is wanted.

A response may be begun before anybody asked for it, in a speaker's pause. What
it tells is then held, in a queue that is bounded, until `release`; if the
speaker goes on, `abandon` leaves no trace but a cancelled request. `response.created`
and the item are told at the release, everything else as it happens.

`cancel` is exact: nothing of the answer is told after it, and the tokens told
before it are those that count.
"""

from __future__ import annotations

import asyncio
import logging

from services.gateway.asking import Ask, Role
from services.gateway.conversations.conversation import END_PATIENCE_SECONDS, Hearing
from services.gateway.decoding import FinishReason
from services.gateway.events import Ended, Event, PlanDecided, Tokens, Usage
from services.gateway.pipeline import Pipeline, Turn
from services.gateway.realtime import report, telling
from services.gateway.realtime.channel import Channel
from services.gateway.realtime.items import Item, new_id
from services.gateway.realtime.latency import Latency
from services.gateway.realtime.lead import Lead
from services.gateway.realtime.mouth import Mouth, SpeechOf
from services.gateway.realtime.settings import Manner
from services.gateway.realtime.telling import Json, Telling
from services.gateway.realtime.timeline import heard_tokens
from services.gateway.rest import extension
from thermesh.errors import Internal, MeshError

log = logging.getLogger(__name__)

GRANT_SECONDS = 0.1
"""How often the engine is told how much of the answer was heard meanwhile."""


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
        self.manner = manner
        self.latency = Latency(pipeline.clock.monotonic())
        self.ask = ask
        self.turn: Turn | None = None
        self.end: Ended | None = None
        self.error: MeshError | None = None
        self.reason: str | None = None
        self.pieces: list[str] = []
        self.heard_at_cancel_ms = 0.0
        item_id = new_id("item")
        self.place: Json = {
            "response_id": self.response_id,
            "item_id": item_id,
            "output_index": 0,
            "content_index": 0,
        }
        """Where the content of this response is, as every event about it says."""
        self._pipeline = pipeline
        self._hearing = hearing
        self._channel = channel
        self._telling = Telling(channel, pipeline.clock, self.latency)
        self._mouth = Mouth(
            speech_of,
            manner,
            place=self.place,
            telling=self._telling,
            latency=self.latency,
            clock=pipeline.clock,
        )
        timeline = self._mouth.timeline
        self.item = Item(item_id, Role.ASSISTANT, "", manner.is_spoken, "in_progress", timeline)
        self._untold_count = 0
        self._previous_item_id: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether everything was told."""
        return self._task is not None and self._task.done()

    @property
    def heard_ms(self) -> float:
        """How much of the speech can have been played by now."""
        return self._telling.heard_ms

    @property
    def is_playing(self) -> bool:
        """Whether some of the speech that was sent cannot have been played yet."""
        return self._telling.is_playing

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
        self._telling.release()

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
        self._telling.hush()
        self.pieces = self.pieces[: self._telling.token_count]
        self.item.text = "".join(self.pieces)
        if self.turn:
            self.turn.cancel(len(self.pieces))
        if self.manner.is_spoken:
            await self._mouth.hush()

    def cut(self, audio_end_ms: float) -> None:
        """Keep of a spoken answer only what was heard until then."""
        self.item.text = self._mouth.timeline.heard(audio_end_ms).rstrip()

    async def _run(self) -> None:
        pumping = asyncio.create_task(self._telling.run(self._open), name="pump")
        try:
            try:
                await self._answer()
            except MeshError as error:
                self.error = error
            except Exception:
                log.exception("answering failed unexpectedly")
                self.error = Internal("internal error; the gateway's log has the details")
            await self._telling.end()
            await pumping
            await self._finish()
        finally:
            await _end(pumping)
            await self._stop_hearing()

    async def _open(self) -> None:
        await report.opening(self._channel, self, self._previous_item_id)

    async def _stop_hearing(self) -> None:
        hearing, self._hearing = self._hearing, None
        if hearing:
            await hearing.close()

    async def _answer(self) -> None:
        features = self._hearing.features if self._hearing else None
        is_spoken = self.manner.is_spoken
        speaking = asyncio.create_task(self._mouth.run(), name="speak") if is_spoken else None
        try:
            async with self._pipeline.open(self.ask, features) as turn:
                self.turn = turn
                if self.reason is not None:
                    turn.cancel(0)
                await self._decode(turn)
            if speaking:
                await self._mouth.end()
                await speaking
        finally:
            if speaking:
                await _end(speaking)

    async def _decode(self, turn: Turn) -> None:
        """Take the answer, on credit where it may be interrupted."""
        granting = asyncio.create_task(self._grant(turn), name="grant")
        try:
            while self.end is None:
                event = await turn.next(END_PATIENCE_SECONDS)
                if event is None and self.reason is not None:
                    event = Ended(FinishReason.CANCELLED, Usage(completion_tokens=len(self.pieces)))
                if event is not None:
                    await self._pass_on(event)
        finally:
            await _end(granting)

    async def _grant(self, turn: Turn) -> None:
        if not self.ask.initial_credit:
            return
        lead = Lead(self.ask.initial_credit)
        while self.reason is None:
            heard_ms = self.heard_ms
            heard = heard_tokens(self.pieces, self._mouth.timeline.heard(heard_ms))
            due = lead.due(len(self.pieces), heard, self._mouth.left_ms(heard_ms))
            if due:
                turn.credit(due)
            await asyncio.sleep(GRANT_SECONDS)

    async def _pass_on(self, event: Event) -> None:
        if isinstance(event, Tokens):
            if self.reason is None:
                await self._tokens(event)
        elif isinstance(event, PlanDecided):
            told = extension.decision(self.ask, event.plan)
            members = {**self.place, "part": self._part(""), "thermesh": told}
            await self._telling.tell(telling.Event("response.content_part.added", members))
        elif isinstance(event, Ended):
            self.end = event

    async def _tokens(self, event: Tokens) -> None:
        if self.latency.first_token is None:
            self.latency.first_token = self._pipeline.clock.monotonic()
        texts = [token.text for token in event.tokens]
        self.pieces += texts
        delta = "".join(texts)
        self.item.text += delta
        self._untold_count += len(texts)
        if not (delta or self.manner.telemetry):
            return
        told: Json = {**self.place, "delta": delta}
        if self.manner.telemetry:
            told["thermesh"] = {"tokens": [extension.token(token) for token in event.tokens]}
        count, self._untold_count = self._untold_count, 0
        kind = f"response.{self.stem}.delta"
        await self._telling.tell(telling.Event(kind, told, token_count=count))
        if self.manner.is_spoken and self.reason is None:
            await self._mouth.feed(delta)

    @property
    def stem(self) -> str:
        """The part of the names of events that tells text from a transcript of speech."""
        return "output_audio_transcript" if self.manner.is_spoken else "output_text"

    def _part(self, text: str) -> Json:
        if self.manner.is_spoken:
            return {"type": "audio", "transcript": text}
        return {"type": "text", "text": text}

    async def _finish(self) -> None:
        if self.reason is not None and self.manner.is_spoken:
            self.cut(self.heard_at_cancel_ms)
        is_whole = self.end is not None and self.reason is None and self.error is None
        self.item.status = "completed" if is_whole else "incomplete"
        await report.closing(self._channel, self, self._part(self.item.text))
        for stage, milliseconds in self.latency.stages().items():
            self._pipeline.instruments.voice_stage(stage, milliseconds / 1000)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
