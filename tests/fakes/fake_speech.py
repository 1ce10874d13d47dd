"""Speech as a script: the test says what was heard, and spoken words are counted samples."""

from __future__ import annotations

import asyncio

from services.gateway.speech import links
from thermesh.errors import FailedPrecondition, ResourceExhausted

MS_PER_WORD = 200.0


class FakeSpeech:
    """Says each word in MS_PER_WORD; hears what `heard` is given."""

    def __init__(self):
        self.heard: asyncio.Queue = asyncio.Queue()
        self.samples = b""
        self.formats: list[links.Format] = []
        self.said: list[str] = []
        self.hushes = 0
        self.is_closed = False

    async def listen(self, wanted):
        """Note the format."""
        self.formats.append(wanted)

    async def hear(self, samples):
        """Keep the samples."""
        self.samples += samples

    async def commit(self):
        """The turn is over with the words of the script."""
        words = links.Words("what is this", 900, 0.5)
        self.heard.put_nowait(links.Stopped(words, audio_end_ms=1000))

    async def clear(self):
        """Forget."""
        self.samples = b""
        self.heard.put_nowait(links.Cleared())

    async def events(self):
        """What the test puts in."""
        while True:
            yield await self.heard.get()

    async def speak(self, text, kind, voice, speed):
        """One packet a word."""
        self.said.append(text)
        for number, _ in enumerate(text.split()):
            yield links.Speaking(b"\0\1" * 10, MS_PER_WORD, 1.0 if number == 0 else None)
            await asyncio.sleep(0)

    async def hush(self):
        """Count."""
        self.hushes += 1

    async def close(self):
        """Note it."""
        self.is_closed = True


class FakeSource:
    """Opens FakeSpeech, `most` at once; `is_there` False: no voice."""

    def __init__(self, is_there=True, most=8):
        self.is_there = is_there
        self.most = most
        self.opened: list[FakeSpeech] = []

    async def open(self):
        """Speech for one session."""
        if not self.is_there:
            raise FailedPrecondition("no voice", reason="NO_VOICE")
        if sum(not speech.is_closed for speech in self.opened) >= self.most:
            raise ResourceExhausted("too many speak")
        self.opened.append(FakeSpeech())
        return self.opened[-1]
