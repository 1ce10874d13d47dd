"""Measure spoken turns: end of utterance to first audio, and barge-in to last token.

    python -m benchmarks.voice                 # rooms of `make up`, two gateways of its own
    python -m benchmarks.voice --publish       # and write docs/benchmarks-voice.md
    python -m benchmarks.voice --rounds 0 --publish --questions-of FILE
                                               # barge-in alone; the rest of an earlier result

espeak-ng speaks the questions, in real time, into the WebSocket; the stack
hears, answers and speaks. Two gateways in front of the same rooms take turns:
one begins to answer in the speaker's first pause, one (the baseline) only when
the turn is over. Barge-ins are made at the first and at one that decodes as fast
as it goes, however far ahead of speech. Needs the extra `voice`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import websockets

from benchmarks import machine
from benchmarks.spread import summary
from services.gateway.speech.audio import Resampler
from services.gateway.speech.engines import Espeak
from thermesh.testing import eventually, free_port

RATE_HZ = 24_000
ATTEMPTS = 2
CHUNK_SECONDS = 0.04
LISTENING_SECONDS = 0.3
"""How long an answer is heard before it is interrupted."""

QUESTIONS = (
    "What is the capital of France?",
    "How are you today?",
    "What is your name?",
    "Where do penguins live?",
    "Who wrote the song?",
)
STORY = "Tell me a very long story about the sea and the old man."
INTERRUPTION = "Stop now please, that is enough."
ON_CREDIT, FREE = "barge-in", "barge-in, decoded as fast as it goes"
STAGES = ("silence", "recognition", "first_token", "first_clause", "synthesis", "headstart")
RESULTS = machine.ROOT / "benchmarks" / "results"
PAGE = machine.ROOT / "docs" / "benchmarks-voice.md"


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


@contextlib.contextmanager
def gateway(preempt: bool, lead: int | None = None) -> Iterator[str]:
    """A gateway in front of the rooms that the environment names; the URL of its door.

    `lead` is how many tokens it lets be decoded ahead of speech; None: as many as usual.
    """
    http = free_port()
    environment = (
        os.environ
        | {
            "THERMESH_GATEWAY_HTTP_PORT": str(http),
            "THERMESH_GATEWAY_GRPC_PORT": str(free_port()),
            "THERMESH_VOICE_PREEMPT": str(preempt),
        }
        | ({} if lead is None else {"THERMESH_VOICE_LEAD_TOKENS": str(lead)})
    )
    process = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
    try:
        yield f"127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(20)


async def ready(host: str) -> bool:
    """Whether the gateway and its rooms are ready."""
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{host}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


async def measure(rounds: int, barge_ins: int) -> dict[str, dict[str, list[float]]]:
    """Return samples by way and figure; ways take turns, in a new order each round."""
    samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    questions = [spoken(text) for text in QUESTIONS]
    async with contextlib.AsyncExitStack() as stack:
        talks = {}
        ways = {"begun in the pause": (True, None), "begun at the end": (False, None)}
        for name, options in (ways | {FREE: (True, 0)}).items():
            host = stack.enter_context(gateway(*options))
            await eventually(lambda host=host: ready(host), 60, "a gateway")
            talks[name] = f"ws://{host}/v1/realtime"
        for number in range(-1, rounds) if rounds else ():
            order = list(ways) if number % 2 else list(reversed(ways))
            for name in order:
                async with talking(talks[name]) as talk:
                    limit = {"type": "realtime", "max_output_tokens": 24}
                    update = {"type": "session.update", "session": limit}
                    await talk.socket.send(json.dumps(update))
                    figures = await ask(talk, bytes(9600) + questions[number % len(questions)])
                if number >= 0:
                    _note(samples[name], figures)
        story, interruption = spoken(STORY), spoken(INTERRUPTION)
        barge_in_ways = {ON_CREDIT: talks["begun in the pause"], FREE: talks[FREE]}
        for _ in range(ATTEMPTS * barge_ins):
            for name, url in barge_in_ways.items():
                if len(samples[name]["heard tokens"]) == barge_ins:
                    continue
                # An answer that happened to be short is over before it can be interrupted.
                async with talking(url) as talk:
                    _note(samples[name], await interrupt(talk, story, interruption))
    return samples


def _note(into: dict[str, list[float]], figures: dict[str, float]) -> None:
    for figure, value in figures.items():
        into[figure].append(round(float(value), 3))


def table(result: dict[str, Any]) -> str:
    """Return the page made from a result."""
    where = result["machine"]
    lines = [
        "# Benchmarks: voice",
        "",
        (
            "Made by `python -m benchmarks.voice --publish` from the samples in"
            f" `benchmarks/results/{result['file']}`{_other(result)}. Questions are spoken by"
            " espeak-ng in real time, heard by silero-vad and pocketsphinx, answered by the"
            " default model, spoken by espeak-ng; everything on one machine. Milliseconds, but for"
            " tokens."
        ),
        "",
        (
            f"{where['processor']}, {where['cores']} cores; commit `{where['commit']}`;"
            f" load {where['load_average']}."
        ),
        "",
        "| way | figure | median | quartiles | p95 | samples |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way, figures in result["samples"].items():
        for figure, values in figures.items():
            one = summary(values)
            spread = f"{one.low:.1f} to {one.high:.1f}"
            lines.append(
                f"| {way} | {figure} | {one.median:.1f} | {spread} | {one.p95:.1f} | {one.count} |"
            )
    return "\n".join([*lines, "", _NOTES])


_NOTES = """`silence` is what the server waits for to know that a turn is over (the API's
`silence_duration_ms`, 500 by default); `recognition` is the words' last pass, done in the first
192 ms of it. `first_token` is from opening the request (features, decision, prefill),
`first_clause` from there to the first clause to speak, `synthesis` from there to its first
samples. `headstart` is how long before the turn's end the answer was begun. Each barge-in ends a
long answer by speech, 0.3 s after it began. `deltas told after barge-in` are words or sound
that came after the server heard it; `tokens thrown away` were decoded by then and neither
sent nor billed; `billed, not heard` were told as text, and decoded ahead of speech. The two
ways of barge-in take turns: with the usual credit, and with none.
"""


def _other(result: dict[str, Any]) -> str:
    other = result.get("questions_of")
    return f" (barge-in) and `benchmarks/results/{other}` (questions)" if other else ""


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--barge-ins", type=int, default=5)
    parser.add_argument("--questions-of", help="result whose questions stand for those not asked")
    parser.add_argument("--publish", action="store_true", help="write the page in docs")
    options = parser.parse_args()
    where = machine.describe()
    samples = asyncio.run(measure(options.rounds, options.barge_ins))
    name = f"voice-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{where['commit']}.json"
    result: dict[str, Any] = {"file": name, "machine": where, "samples": samples}
    if options.questions_of:
        earlier = json.loads((RESULTS / options.questions_of).read_text())["samples"]
        asked = {way: earlier[way] for way in earlier if way.startswith("begun")}
        result |= {"questions_of": options.questions_of, "samples": asked | samples}
    print(table(result))
    if options.publish:
        (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(table(result))


if __name__ == "__main__":
    main()
