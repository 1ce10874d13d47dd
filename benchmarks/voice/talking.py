"""A speaker in front of `/v1/realtime`: asks, listens, interrupts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import websockets

from services.gateway.speech.audio import Resampler
from services.gateway.speech.engines import Espeak

RATE_HZ = 24_000
CHUNK_SECONDS = 0.04
LISTENING_SECONDS = 0.3
"""How long an answer is heard before it is interrupted."""

STAGES = ("silence", "recognition", "first_token", "first_clause", "synthesis", "headstart")


def spoken(text: str) -> bytes:
    """Return `text` as 16-bit PCM at 24 kHz."""
    speaker, heard = Espeak("en-us"), []
    speaker.speak(text, "en-us", 0.9, lambda samples: not heard.append(samples))
    return Resampler(speaker.rate_hz, RATE_HZ)(np.concatenate(heard)).astype("<i2").tobytes()


@dataclass
class Microphone:
    """Sends sound in real time: silence, or what it was told to say."""

    socket: websockets.ClientConnection
    waiting: bytearray = field(default_factory=bytearray)
    spoken_at: float = 0.0

    def say(self, samples: bytes) -> None:
        """Queue speech."""
        self.waiting += samples

    async def run(self) -> None:
        """Send until cancelled."""
        size = int(RATE_HZ * CHUNK_SECONDS) * 2
        due = time.perf_counter()
        while True:
            chunk = bytes(self.waiting[:size])
            del self.waiting[:size]
            if chunk and not self.waiting:
                self.spoken_at = time.perf_counter()
            padded = chunk.ljust(size, b"\0")
            audio = base64.b64encode(padded).decode()
            event = {"type": "input_audio_buffer.append", "audio": audio}
            await self.socket.send(json.dumps(event))
            due += CHUNK_SECONDS
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


@dataclass
class Talk:
    """A session and its microphone."""

    socket: websockets.ClientConnection
    microphone: Microphone
    kinds: list[str] = field(default_factory=list)

    async def until(self, kind: str) -> tuple[dict[str, Any], float]:
        """Return the next event of a kind and when it came."""
        async with asyncio.timeout(30):
            while True:
                event = json.loads(await self.socket.recv())
                if event["type"] == "error":
                    raise RuntimeError(event["error"]["message"])
                self.kinds.append(event["type"])
                if event["type"] == kind:
                    return event, time.perf_counter()


@contextlib.asynccontextmanager
async def talking(url: str) -> AsyncIterator[Talk]:
    """A session with a microphone that is on."""
    async with websockets.connect(url, max_size=None) as socket:
        microphone = Microphone(socket)
        running = asyncio.create_task(microphone.run())
        try:
            yield Talk(socket, microphone)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            # A polite close would wait for speech that nobody reads any more.
            socket.transport.abort()


async def ask(talk: Talk, samples: bytes) -> dict[str, float]:
    """Ask one question; return milliseconds by stage, as heard here and as told."""
    talk.microphone.say(samples)
    _, stopped_at = await talk.until("input_audio_buffer.speech_stopped")
    _, audio_at = await talk.until("response.output_audio.delta")
    done, _ = await talk.until("response.done")
    told = done["response"]["thermesh"]["latency_ms"]
    return {
        "turn's end to first audio": (audio_at - stopped_at) * 1000,
        "last sound to first audio": (audio_at - talk.microphone.spoken_at) * 1000,
        **{stage: told[stage] for stage in STAGES if stage in told},
    }


async def interrupt(talk: Talk, story: bytes, interruption: bytes) -> dict[str, float]:
    """Interrupt a long answer; return what was decoded after the server heard it."""
    limit = {"type": "realtime", "max_output_tokens": 400}
    await talk.socket.send(json.dumps({"type": "session.update", "session": limit}))
    talk.microphone.say(story)
    await talk.until("response.output_audio.delta")
    listening = asyncio.create_task(talk.until("input_audio_buffer.speech_started"))
    await asyncio.sleep(LISTENING_SECONDS)
    talk.microphone.say(interruption)
    _, started_at = await listening
    talk.kinds.clear()
    done, done_at = await talk.until("response.done")
    after = [kind for kind in talk.kinds if kind.endswith(".delta")]
    told = done["response"]["thermesh"]
    if "heard_tokens" not in told:
        return {}
    await talk.until("input_audio_buffer.speech_stopped")
    billed = done["response"]["usage"]["output_tokens"]
    return {
        "deltas told after barge-in": len(after),
        "tokens thrown away": told["discarded_tokens"],
        "tokens billed": billed,
        "heard tokens": told["heard_tokens"],
        "billed, not heard": billed - told["heard_tokens"],
        "barge-in to response.done": (done_at - started_at) * 1000,
    }
