"""Realtime on the whole mesh: text and, with the real engines, speech in and out."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import openai
import pytest

from services.gateway.speech.audio import Resampler
from services.gateway.speech.engines import Espeak
from thermesh.testing import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.slow, pytest.mark.timeout(300)]

MODEL = "smollm2-135m-instruct"


def spoken(text):
    """A text as PCM at 24 kHz."""
    speaker, heard = Espeak("en-us"), []
    speaker.speak(text, "en-us", 0.9, lambda samples: not heard.append(samples))
    return Resampler(speaker.rate_hz, 24_000)(np.concatenate(heard)).astype("<i2").tobytes()


async def until(connection, kind):
    """Events up to the first of a kind."""
    events = []
    async with asyncio.timeout(120):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
            assert events[-1].type != "error", events[-1]
    return events


def session_of(mesh):
    """The official client's connection, to be entered."""
    client = openai.AsyncOpenAI(base_url=f"{mesh.url}/v1", api_key="unused")
    return client.realtime.connect(model=MODEL)


async def test_a_text_turn_is_decoded_by_the_mesh(mesh):
    """A typed question is answered, with the policy's plan beside it."""
    async with session_of(mesh) as connection:
        session = {"type": "realtime", "output_modalities": ["text"], "max_output_tokens": 24}
        await connection.session.update(session=session)
        content = [{"type": "input_text", "text": "What is the capital of France?"}]
        item = {"type": "message", "role": "user", "content": content}
        await connection.conversation.item.create(item=item)
        await connection.response.create(response={"temperature": 0})
        done = (await until(connection, "response.done"))[-1].response
    assert "Paris" in done.output[0].content[0].text
    assert done.thermesh["plan"]["source"] == "pinned"


async def test_speech_is_heard_answered_aloud_and_interrupted(mesh):
    """Synthesized speech becomes a turn and is answered in speech; speaking again stops it."""
    silence = bytes(48_000)
    async with session_of(mesh) as connection:

        async def say(samples):
            for start in range(0, len(samples), 9600):
                audio = base64.b64encode(samples[start : start + 9600]).decode()
                await connection.input_audio_buffer.append(audio=audio)

        await until(connection, "session.created")
        # Nearly greedy, so that it is the long story: a short one is over before it is interrupted.
        low = {"temperature_range": {"minimum": 0.1, "maximum": 0.1}}
        await connection.session.update(session={"type": "realtime", "thermesh": low})
        await say(silence + spoken("Please tell me a very long story about the sea.") + silence)
        heard = await until(connection, "conversation.item.input_audio_transcription.completed")
        assert heard[-1].transcript
        await until(connection, "response.output_audio.delta")
        # The next answer takes as long to tell as to hear, so let it be short.
        short = {"type": "realtime", "max_output_tokens": 16}
        await connection.session.update(session=short)
        await say(spoken("Stop now please, that is enough.") + silence)
        events = await until(connection, "response.done")
        kinds = [event.type for event in events]
        assert "response.created" not in kinds
        after = kinds[kinds.index("input_audio_buffer.speech_started") :]
        assert not [
            kind for kind in after if kind.startswith("response.output") and "delta" in kind
        ]
        done = events[-1].response
        assert done.thermesh["heard_tokens"] <= done.usage.output_tokens
        await until(connection, "response.done")
    await eventually(mesh.idle, 60, "an idle engine")
