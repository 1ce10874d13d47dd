"""The real engines in their process: what is said is heard as speech, and nothing stays behind."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from typing import ClassVar

import pytest

from services.gateway.speech.config import VoiceConfig
from services.gateway.speech.links import Failed, Format, Paused, Started, Stopped
from services.gateway.speech.process import Processes
from thermesh.errors import FailedPrecondition, ResourceExhausted

pytestmark = pytest.mark.slow

SILENCE = {"audio/pcm": bytes(48_000), "audio/pcmu": b"\xff" * 8_000, "audio/pcma": b"\xd5" * 8_000}


async def spoken(speech, text, kind="audio/pcm"):
    """A text as the process speaks it."""
    return b"".join([part.samples async for part in speech.speak(text, kind, "en-us", 0.9)])


async def heard(speech, last=Stopped):
    """What the ears tell, up to an event of a kind."""
    events = []
    async with asyncio.timeout(90):
        async for event in speech.events():
            events.append(event)
            if isinstance(event, last):
                return events
    raise AssertionError(events)


async def test_speech_is_heard_in_every_format():
    """Its own voice is a turn with words, in PCM and both telephone codes."""
    processes = Processes(VoiceConfig(sessions=1))
    speech = await processes.open()
    try:
        with pytest.raises(ResourceExhausted):
            await processes.open()
        for kind, silence in SILENCE.items():
            await speech.listen(Format(kind))
            said = await spoken(speech, "What is the capital of France?", kind)
            await speech.hear(silence + said + silence)
            events = await heard(speech)
            kinds = [type(event) for event in events]
            assert kinds[0] is Started
            assert Paused in kinds
            assert events[-1].words.text.split()[0] in {"what", "would", "but", "what's"}
            assert 500 < events[-1].words.speech_ms < 3000
    finally:
        await speech.close()
    again = await processes.open()
    await again.close()


async def test_a_killed_process_is_told():
    """Where the process dies, the ears say so and a clause being spoken ends."""
    speech = await Processes(VoiceConfig()).open()
    try:
        await spoken(speech, "Hello.")
        speech._process.kill()
        assert (await heard(speech, Failed))[-1].is_over
        assert await spoken(speech, "Is anybody there?") == b""
    finally:
        await speech.close()


async def test_no_voice_is_a_clear_error():
    """Where voice is off, opening says what to do."""
    with pytest.raises(FailedPrecondition, match="extra `voice`"):
        await Processes(VoiceConfig(enabled="off")).open()


class Engines(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible `/v1/audio`: writes down words, speaks a tone."""

    said: ClassVar[list[str]] = []

    def do_POST(self):
        """Transcribe or speak."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/transcriptions"):
            assert b"RIFF" in body
            answer = b'{"text": "written elsewhere"}'
        else:
            self.said.append(json.loads(body)["input"])
            answer = b"\x00\x10" * 4800
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing."""


async def test_better_engines_are_reached_by_configuration():
    """Speech and words come from the configured URLs."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engines)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        local = await Processes(VoiceConfig()).open()
        said = await spoken(local, "What is the capital of France?")
        await local.close()
        speech = await Processes(VoiceConfig(recogniser_url=url, speaker_url=url)).open()
        assert len(await spoken(speech, "Hello")) == 9600
        await speech.hear(SILENCE["audio/pcm"] + said + SILENCE["audio/pcm"])
        assert (await heard(speech))[-1].words.text == "written elsewhere"
        await speech.close()
    finally:
        server.shutdown()
        server.server_close()
    assert Engines.said == ["Hello"]
