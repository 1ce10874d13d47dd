"""Spoken turns through the official client, with scripted ears and mouth."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import fake_speech
import gateway_fakes as fakes
import openai
import pytest

from services.gateway.speech.config import VoiceConfig
from services.gateway.speech.links import Failed, Partial, Paused, Resumed, Started, Stopped, Words
from thermesh.testing import FakeClock, eventually

QUESTION = "what is the capital of france"


class Talk:
    """A voice session: the client's connection and the session's scripted speech."""

    def __init__(self, served, source, clock, connection):
        self.served = served
        self.source = source
        self.clock = clock
        self.connection = connection
        self.events = []

    @property
    def speech(self):
        """The newest scripted speech."""
        return self.source.opened[-1]

    async def append(self):
        """Send some sound, so that speech is opened."""
        audio = base64.b64encode(b"\0\0" * 100).decode()
        await self.connection.input_audio_buffer.append(audio=audio)
        await eventually(lambda: self.source.opened and self.speech.samples, 30)

    def hear(self, *heard):
        """Let the ears tell something."""
        for one in heard:
            self.speech.heard.put_nowait(one)

    async def until(self, kind):
        """The next event of a kind; all are kept."""
        async with asyncio.timeout(60):
            while True:
                self.events.append(await self.connection.recv())
                if self.events[-1].type == kind:
                    return self.events[-1]

    def kinds(self):
        """Types of the events so far."""
        return [event.type for event in self.events]


@contextlib.asynccontextmanager
async def talking(serve, voice=None, **session):
    """A session with scripted speech."""
    source, clock = fake_speech.FakeSource(), FakeClock()
    served = await serve(speech=source, clock=clock, voice=voice)
    base_url = f"http://127.0.0.1:{served.http_port}/v1"
    async with (
        openai.AsyncOpenAI(base_url=base_url, api_key="unused") as client,
        client.realtime.connect(model=fakes.MODEL) as connection,
    ):
        talk = Talk(served, source, clock, connection)
        created = await talk.until("session.created")
        assert created.session.output_modalities == ["audio"]
        if session:
            await connection.session.update(session={"type": "realtime", **session})
            await talk.until("session.updated")
        yield talk
    await eventually(lambda: all(speech.is_closed for speech in source.opened), 30)
    await eventually(lambda: served.inference.open_calls == 0, 30)


def words(text=QUESTION):
    """Words that took 300 ms each."""
    return Words(text, 300 * len(text.split()), 0.5)


def stopped(text=QUESTION):
    """The end of a turn after half a second of silence."""
    return Stopped(words(text), audio_end_ms=3000, silence_ms=512, recognition_ms=20.0)


async def test_a_spoken_question_is_heard_and_answered_aloud(serve):
    """Turn, transcript, answer and speech come in the API's events, stages told."""
    async with talking(serve) as talk:
        await talk.append()
        talk.hear(Started(500), Partial(words("what is")), stopped())
        done = (await talk.until("response.done")).response
    assert [kind for kind in talk.kinds()[1:] if "delta" not in kind] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert done.output[0].content[0].transcript == "Paris is it."
    assert done.thermesh["latency_ms"].keys() >= {"silence", "recognition", "synthesis", "response"}
    assert talk.kinds().count("response.output_audio.delta") == 3
    start = talk.served.inference.calls[0].start
    assert start.chat.messages[-1].content == QUESTION
    assert QUESTION in talk.served.feature.heard
    assert talk.served.count("thermesh.voice.stage.duration", **{"thermesh.voice.stage": "silence"})


async def test_an_answer_is_begun_in_the_pause_and_told_at_the_end(serve):
    """Decoding starts when the user pauses; nothing is told before the turn is over."""
    async with talking(serve) as talk:
        await talk.append()
        talk.hear(Started(500), Paused(words()))
        await eventually(lambda: talk.speech.said, 30)
        talk.hear(stopped())
        done = (await talk.until("response.done")).response
        assert len(talk.served.inference.calls) == 1
    created = talk.kinds().index("response.created")
    assert created > talk.kinds().index("input_audio_buffer.speech_stopped")
    assert done.status == "completed"


async def test_a_user_who_goes_on_is_heard_out(serve):
    """What was begun in a pause is abandoned without a word; the whole text is answered."""
    async with talking(serve) as talk:
        talk.served.inference.hangs_after = 1
        await talk.append()
        talk.hear(Started(500), Paused(words("what is")))
        await eventually(lambda: talk.served.inference.calls, 30)
        talk.hear(Resumed())
        await eventually(lambda: talk.served.inference.open_calls == 0, 30)
        talk.served.inference.hangs_after = None
        talk.hear(Paused(words()), stopped())
        await talk.until("response.done")
        first, second = talk.served.inference.calls
    assert first.was_cancelled
    assert second.start.chat.messages[-1].content == QUESTION
    assert talk.kinds().count("response.created") == 1


async def test_barging_in_stops_the_answer_and_keeps_what_was_heard(serve):
    """The user speaks: decoding is cancelled, the item cut by the server, heard tokens told."""
    async with talking(serve) as talk:
        talk.served.inference.texts = ["Paris", " is", " it.", " Indeed", " so"]
        talk.served.inference.hangs_after = 4
        talk.served.inference.steps = asyncio.Semaphore(0)
        await talk.append()
        talk.hear(Started(500), stopped())
        for _ in range(4):
            talk.served.inference.steps.release()
            await talk.until("response.output_audio_transcript.delta")
        while talk.kinds().count("response.output_audio.delta") < 3:
            await talk.until("response.output_audio.delta")
        talk.clock.advance(0.45)
        talk.hear(Started(4000))
        done = (await talk.until("response.done")).response
        told = talk.kinds().count("response.output_audio_transcript.delta")
        truncated = await talk.until("conversation.item.truncated")
        talk.served.inference.hangs_after = talk.served.inference.steps = None
        talk.hear(stopped("and of spain"))
        await talk.until("response.done")
        first, second = talk.served.inference.calls
    assert (done.status, done.status_details.reason) == ("cancelled", "turn_detected")
    assert done.thermesh["heard_tokens"] == 2
    [kept] = [one.cancel.kept_tokens for one in first.received if one.HasField("cancel")]
    assert kept == done.usage.output_tokens == told
    assert done.thermesh["discarded_tokens"] == 4 - told
    assert truncated.audio_end_ms == 450
    assert "cancel" in first.kinds
    said = [turn.content for turn in second.start.chat.messages]
    assert said == [QUESTION, "Paris is", "and of spain"]
    assert talk.source.opened[0].hushes


async def test_nothing_of_an_answer_is_told_after_it_was_interrupted(serve):
    """Words and sound that waited for a client who was behind are dropped."""
    async with talking(serve) as talk:
        talk.served.inference.texts = [" many", " words"] * 400
        await talk.append()
        talk.hear(Started(500), stopped())
        await talk.until("response.output_audio.delta")
        talk.hear(Started(4000))
        await talk.until("input_audio_buffer.speech_started")
        await talk.until("response.done")
    second = len(talk.kinds()) - talk.kinds()[::-1].index("input_audio_buffer.speech_started")
    assert not [kind for kind in talk.kinds()[second:] if kind.endswith(".delta")]


async def test_an_answer_that_may_be_interrupted_is_decoded_on_credit(serve):
    """A few tokens ahead of what is heard, more when the speech runs short; without a bound
    where speaking does not stop it."""
    async with talking(serve, VoiceConfig(lead_tokens=3)) as talk:
        talk.served.inference.texts = ["Paris", " is", " it.", " Indeed", " so"]
        talk.served.inference.hangs_after = 4
        await talk.append()
        talk.hear(Started(500), stopped())
        await talk.until("response.output_audio.delta")
        [call] = talk.served.inference.calls
        await eventually(lambda: "credit" in call.kinds, 20)
        talk.hear(Started(4000))
        await talk.until("response.done")
        assert call.start.initial_credit == 3
        detection = {"type": "server_vad", "interrupt_response": False}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await talk.connection.session.update(session=session)
        await talk.until("session.updated")
        talk.served.inference.hangs_after = None
        await talk.connection.response.create()
        await talk.until("response.done")
    assert talk.served.inference.calls[1].start.initial_credit == 0


async def test_an_answer_that_was_sent_but_not_played_is_cut_too(serve):
    """Speech is sent faster than played; who interrupts the playing heard only the beginning."""
    async with talking(serve) as talk:
        await talk.append()
        talk.hear(Started(500), stopped())
        done = (await talk.until("response.done")).response
        talk.clock.advance(0.25)
        talk.hear(Started(4000))
        await talk.until("conversation.item.truncated")
        item_id = done.output[0].id
        await talk.connection.conversation.item.retrieve(item_id=item_id)
        retrieved = await talk.until("conversation.item.retrieved")
        assert retrieved.item.content[0].transcript == "Paris"
        await talk.connection.conversation.item.truncate(
            item_id=item_id, content_index=0, audio_end_ms=410
        )
        await talk.until("conversation.item.truncated")
        await talk.connection.conversation.item.retrieve(item_id=item_id)
        retrieved = await talk.until("conversation.item.retrieved")
    assert retrieved.item.content[0].transcript == "Paris is"


async def test_without_detection_the_client_says_when(serve):
    """turn_detection null: commit makes the item, response.create the answer; empty is refused."""
    async with talking(serve, audio={"input": {"turn_detection": None}}) as talk:
        await talk.connection.input_audio_buffer.commit()
        assert (await talk.until("error")).error.code == "input_audio_buffer_commit_empty"
        await talk.append()
        assert talk.speech.formats[-1].silence_ms is None
        await talk.connection.input_audio_buffer.commit()
        await talk.until("conversation.item.input_audio_transcription.completed")
        assert "response.created" not in talk.kinds()
        await talk.connection.response.create(response={"output_modalities": ["text"]})
        done = (await talk.until("response.done")).response
        await talk.append()
        await talk.connection.input_audio_buffer.clear()
        await talk.until("input_audio_buffer.cleared")
    assert done.output[0].content[0].text == "Paris is it."


async def test_a_mouth_that_dies_is_told_and_replaced(serve):
    """Where the speech process is gone the client learns it; the next sound opens another."""
    async with talking(serve) as talk:
        await talk.append()
        talk.hear(Failed("speech", is_over=True))
        error = (await talk.until("error")).error
        assert error.type == "server_error"
        assert talk.speech.is_closed
        audio = base64.b64encode(b"\0\0").decode()
        await talk.connection.input_audio_buffer.append(audio=audio)
        await eventually(lambda: len(talk.source.opened) == 2, 30)


async def test_a_client_that_leaves_without_reading_frees_everything(serve):
    """A client goes while speech for it is piling up; decoding ends and the session is gone."""
    async with talking(serve) as talk:
        talk.served.inference.texts = [" word" * 400 + ". "] * 200
        await talk.append()
        talk.hear(Started(500), stopped())
        await talk.until("response.output_audio.delta")
        inference = talk.served.inference
        talk.connection._connection.transport.pause_reading()
        await eventually(lambda: len(talk.speech.said) > 1, 30)
        await talk.connection._connection.send('{"type": "input_audio_buffer.clear"}')
        talk.connection._connection.transport.abort()
        await eventually(lambda: inference.open_calls == 0, 30)
        await eventually(lambda: talk.served.gateway._sessions.inside == 0, 30)


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
async def test_telephone_formats_are_taken_in_both_directions(serve, kind):
    """g711 is what the ears are told and what the session says."""
    form = {"type": kind}
    async with talking(
        serve, audio={"input": {"format": form}, "output": {"format": form}}
    ) as talk:
        session = json.loads(talk.events[-1].to_json())["session"]
        assert session["audio"]["output"]["format"]["type"] == kind
        await talk.append()
        assert talk.speech.formats[-1].kind == kind
