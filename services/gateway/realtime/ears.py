"""The spoken side of a session: what is heard becomes turns, and turns are answered.

Partial transcripts go to the feature service while the user speaks. In the
first pause the answer is begun, not told; it is told when the silence has been
long enough to end the turn, or abandoned when the user goes on. A user who
begins to speak stops the answer, and what was not heard of it is forgotten.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.asking import Role, Voice
from services.gateway.conversations.conversation import Hearing
from services.gateway.realtime.bodies import ResponseBody
from services.gateway.realtime.items import Item, messages_of, new_id
from services.gateway.realtime.response import Response
from services.gateway.realtime.settings import ask_of, format_of, spoken_by
from services.gateway.speech import links
from services.gateway.speech.links import Speech, Words
from thermesh.errors import InvalidArgument, MeshError, Unavailable

if TYPE_CHECKING:
    from services.gateway.realtime.session import Session

log = logging.getLogger(__name__)


@dataclass
class HeardTurn:
    """The user's turn under way."""

    item_id: str
    told: str = ""
    hearing: Hearing | None = None
    prepared: Response | None = None


class Ears:
    """Hears one session; opens speech when it is first needed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._opening = asyncio.Lock()
        self._speech: Speech | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._turn = HeardTurn(new_id("item"))
        self._has_audio = False
        self._is_committed = False

    async def speech(self) -> Speech:
        """Return the session's ears and mouth; raise MeshError where there are none."""
        async with self._opening:
            if self._speech is None:
                speech = await self._session.around.speech.open()
                self._speech = speech
                await speech.listen(format_of(self._session.settings))
                self._hearing = asyncio.create_task(self._hear(speech), name="ears")
        return self._speech

    async def append(self, audio: str) -> None:
        """Hear samples in base64."""
        kind = self._session.settings.audio.input.format.type
        try:
            samples = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidArgument("audio must be base64", field="audio") from None
        if kind == "audio/pcm" and len(samples) % 2:
            raise InvalidArgument("audio must be whole samples of 16 bits", field="audio")
        speech = await self.speech()
        self._has_audio = self._has_audio or bool(samples)
        await speech.hear(samples)

    async def commit(self) -> None:
        """End the turn now; nobody answers it unasked."""
        if not self._has_audio:
            raise InvalidArgument("no audio was appended", reason="INPUT_AUDIO_BUFFER_COMMIT_EMPTY")
        self._is_committed = True
        await (await self.speech()).commit()

    async def clear(self) -> None:
        """Forget what was appended."""
        if self._speech is None:
            await self._session.channel.tell("input_audio_buffer.cleared")
        else:
            await self._speech.clear()

    async def listen(self) -> None:
        """Hear as the settings now say."""
        if self._speech is not None:
            await self._forget()
            await self._speech.listen(format_of(self._session.settings))

    async def close(self) -> None:
        """End everything."""
        if self._hearing:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        await self._forget()
        if self._speech:
            await self._speech.close()

    async def _hear(self, speech: Speech) -> None:
        async for heard in speech.events():
            try:
                async with self._session.turns:
                    await self._obey(heard)
            except MeshError as error:
                await self._session.complain(error, None)
            except Exception:
                log.exception("hearing failed unexpectedly")

    async def _obey(self, heard: links.Heard) -> None:
        if isinstance(heard, links.Started):
            await self._started(heard)
        elif isinstance(heard, links.Partial):
            await self._partial(heard.words)
        elif isinstance(heard, links.Paused):
            await self._paused(heard.words)
        elif isinstance(heard, links.Resumed):
            await self._abandon()
        elif isinstance(heard, links.Stopped):
            await self._stopped(heard)
        elif isinstance(heard, links.Cleared):
            await self._forget()
            await self._session.channel.tell("input_audio_buffer.cleared")
        else:
            await self._failed(heard)

    async def _failed(self, heard: links.Failed) -> None:
        if heard.is_over and self._speech is not None:
            speech, self._speech, self._hearing = self._speech, None, None
            await self._forget()
            await speech.close()
        raise Unavailable(f"{heard.stage} failed; the gateway's log has the details")

    async def _started(self, heard: links.Started) -> None:
        detection = self._session.settings.audio.input.turn_detection
        response = self._session.response
        interrupts = bool(detection and detection.interrupt_response)
        if interrupts and response and not response.is_over:
            # Before anything is told: a client that is behind must not keep the engine busy.
            await response.cancel("turn_detected")
        told = {"audio_start_ms": heard.audio_start_ms, "item_id": self._turn.item_id}
        await self._session.channel.tell("input_audio_buffer.speech_started", **told)
        if interrupts and response:
            await self._cut(response)

    async def _cut(self, response: Response) -> None:
        """Forget what was not heard of an answer, also where all of it was sent already."""
        await response.wait()
        if not response.manner.is_spoken:
            return
        heard_ms = response.heard_at_cancel_ms
        if response.reason is None:
            if not response.is_playing:
                return
            heard_ms = response.heard_ms
            response.cut(heard_ms)
        if response.reason in {None, "turn_detected"}:
            await self._session.tell_truncated(response.item, int(heard_ms))

    async def _partial(self, words: Words) -> None:
        self._features(words, is_final=False)
        turn = self._turn
        extends = words.text.startswith(turn.told)
        delta = words.text[len(turn.told) :] if extends else ""
        turn.told = words.text if extends else turn.told
        if self._session.settings.audio.input.transcription is not None:
            await self._session.channel.tell(
                "conversation.item.input_audio_transcription.delta",
                item_id=turn.item_id,
                content_index=0,
                delta=delta,
                thermesh={"partial": words.text},
            )

    async def _paused(self, words: Words) -> None:
        detection = self._session.settings.audio.input.turn_detection
        if not (words.text and detection and detection.create_response):
            return
        active = self._session.response
        is_free = active is None or active.is_over
        if is_free and self._session.around.preempt and not self._is_committed:
            self._features(words, is_final=True)
            item = Item(self._turn.item_id, Role.USER, words.text, is_speech=True)
            self._turn.prepared = await self._begin(self._turn, words, item)

    async def _begin(self, turn: HeardTurn, words: Words, item: Item | None) -> Response:
        """Begin to answer; what listened is the response's from now on."""
        hearing = turn.hearing
        response = await self._session.begin(ResponseBody(), item, _voice(words), hearing)
        turn.hearing = None
        return response

    def _features(self, words: Words, *, is_final: bool) -> None:
        turn, session = self._turn, self._session
        if turn.hearing is None and words.text:
            item = Item(turn.item_id, Role.USER, words.text)
            said = (*session.items.messages(), *messages_of([item]))
            now = session.around.pipeline.clock.unix_ms()
            ask = ask_of(session.settings, ResponseBody(), said, now, "")
            turn.hearing = session.around.listen(spoken_by(ask, _voice(words)))
        if turn.hearing is not None:
            turn.hearing.hear(words.text, _voice(words), is_final)

    async def _stopped(self, heard: links.Stopped) -> None:
        """Add what was said to the conversation, and answer it."""
        turn, session = self._turn, self._session
        is_committed, self._is_committed, self._has_audio = self._is_committed, False, False
        detection = session.settings.audio.input.turn_detection
        is_answered = bool(
            detection and detection.create_response and heard.words.text and not is_committed
        )
        self._turn = HeardTurn(new_id("item"))
        ended = session.around.pipeline.clock.monotonic()
        try:
            await self._tell_turn(turn, heard, is_detected=not is_committed)
            if is_answered:
                await self._answer(turn, heard, ended)
        finally:
            await _close(turn)

    async def _answer(self, turn: HeardTurn, heard: links.Stopped, ended: float) -> None:
        self._session.check_idle()
        response = turn.prepared
        if response is None:
            if turn.hearing:
                turn.hearing.hear(heard.words.text, _voice(heard.words), is_final=True)
            response = await self._begin(turn, heard.words, None)
        turn.prepared = None
        response.latency.turn_ended = ended
        response.latency.silence_ms = float(heard.silence_ms)
        response.latency.recognition_ms = heard.recognition_ms
        await self._session.respond(response)

    async def _tell_turn(self, turn: HeardTurn, heard: links.Stopped, *, is_detected: bool) -> None:
        session, item_id = self._session, turn.item_id
        tell: Callable[..., Awaitable[None]] = session.channel.tell
        if is_detected:
            told = {"audio_end_ms": heard.audio_end_ms, "item_id": item_id}
            await tell("input_audio_buffer.speech_stopped", **told)
        committed = {"previous_item_id": session.items.last_id, "item_id": item_id}
        await tell("input_audio_buffer.committed", **committed)
        item = Item(item_id, Role.USER, heard.words.text, is_speech=True)
        await session.say(item)
        if session.settings.audio.input.transcription is not None:
            seconds = heard.words.speech_ms / 1000
            await tell(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=heard.words.text,
                usage={"type": "duration", "seconds": seconds},
            )

    async def _abandon(self) -> None:
        prepared, self._turn.prepared = self._turn.prepared, None
        hearing, self._turn.hearing = self._turn.hearing, None
        if prepared:
            await prepared.abandon()
        if hearing:
            await hearing.close()

    async def _forget(self) -> None:
        await self._abandon()
        self._turn = HeardTurn(new_id("item"))
        self._has_audio = self._is_committed = False


async def _close(turn: HeardTurn) -> None:
    if turn.prepared:
        await turn.prepared.abandon()
    if turn.hearing:
        await turn.hearing.close()


def _voice(words: Words) -> Voice:
    return Voice(words.speech_ms, words.confidence)
