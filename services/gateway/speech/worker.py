"""The speech process: reads frames, hears on one thread, speaks on another.

The reader never computes, so that `hush` takes effect while a clause is being
spoken. Queues are bounded: a full one stops the reader, then the pipe, then the
gateway's own write, and at last the client.
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from services.gateway.speech import frames
from services.gateway.speech.audio import BYTES, RATES, Resampler, Samples, encode
from services.gateway.speech.config import VoiceConfig
from services.gateway.speech.engines import (
    Activity,
    Espeak,
    PocketSphinx,
    Recogniser,
    Silero,
    Speaker,
    milliseconds,
)
from services.gateway.speech.listening import Listener
from services.gateway.speech.remote import RemoteRecogniser, RemoteSpeaker

MOST_WAITING = 256
Json = dict[str, Any]
Frame = Json | frames.Audio


@dataclasses.dataclass(frozen=True)
class Engines:
    """Makes engines when they are first needed; each is made once."""

    activity: Callable[[], Activity]
    recogniser: Callable[[], Recogniser]
    speaker: Callable[[], Speaker]


def engines_of(config: VoiceConfig) -> Engines:
    """Return the engines that the settings name."""

    def recogniser() -> Recogniser:
        if config.recogniser_url:
            return RemoteRecogniser(config.recogniser_url, config.recogniser_model, config.key)
        return PocketSphinx()

    def speaker() -> Speaker:
        if config.speaker_url:
            return RemoteSpeaker(config.speaker_url, config.speaker_model, config.key)
        return Espeak(config.language)

    return Engines(Silero, recogniser, speaker)


class Worker:
    """Serves one session on a pair of pipes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._writing = threading.Lock()
        self._hearing: queue.Queue[Frame | None] = queue.Queue(MOST_WAITING)
        self._speaking: queue.Queue[Frame | None] = queue.Queue(MOST_WAITING)
        self._hushed = 0

    def run(self) -> None:
        """Serve until the gateway closes its end."""
        opening = self._read()
        if not isinstance(opening, dict):
            return
        engines = engines_of(VoiceConfig(**opening["config"]))
        ears = threading.Thread(target=self._hear, args=(engines,), daemon=True)
        mouth = threading.Thread(target=self._speak, args=(engines,), daemon=True)
        ears.start()
        mouth.start()
        while (frame := self._read()) is not None:
            self._pass_on(frame)

    def _pass_on(self, frame: Frame) -> None:
        if isinstance(frame, frames.Audio) or frame["type"] in {"listen", "commit", "clear"}:
            self._hearing.put(frame)
        elif frame["type"] == "hush":
            self._hushed = frame["clause"]
        else:
            self._speaking.put(frame)

    def _hear(self, engines: Engines) -> None:
        try:
            activity, recogniser = engines.activity(), engines.recogniser()
        except Exception as error:
            self._fail("recognition", error)
            return
        listener = Listener(activity, recogniser)
        self._send({"type": "ready"})
        while (frame := self._hearing.get()) is not None:
            try:
                if isinstance(frame, dict) and frame["type"] == "listen":
                    activity.reset()
                    listener = Listener(activity, recogniser, **frame["options"])
                    continue
                self._tell(listener, frame)
            except Exception as error:
                self._fail("recognition", error)

    def _tell(self, listener: Listener, frame: Frame) -> None:
        if isinstance(frame, frames.Audio):
            told = listener.hear(frame.samples)
        else:
            told = listener.commit() if frame["type"] == "commit" else listener.clear()
        for event in told:
            self._send(event)

    def _speak(self, engines: Engines) -> None:
        speaker: Speaker | None = None
        while isinstance(frame := self._speaking.get(), dict):
            clause, length = int(frame["clause"]), 0
            try:
                speaker = speaker or engines.speaker()
                if clause > self._hushed:
                    length = self._say(speaker, frame)
            except Exception as error:
                self._fail("speech", error)
            kind = frame["format"]
            length_ms = length * 1000 / (RATES[kind] * BYTES[kind])
            self._send({"type": "spoken", "clause": clause, "length_ms": round(length_ms, 3)})

    def _say(self, speaker: Speaker, frame: Json) -> int:
        clause, kind = int(frame["clause"]), frame["format"]
        resample, length, began = Resampler(speaker.rate_hz, RATES[kind]), 0, milliseconds()

        def emit(samples: Samples) -> bool:
            nonlocal length
            if clause <= self._hushed:
                return False
            encoded = encode(kind, resample(samples))
            if not length:
                made_ms = round(milliseconds() - began, 3)
                self._send({"type": "speaking", "clause": clause, "synthesis_ms": made_ms})
            length += len(encoded)
            self._send(frames.Audio(clause, encoded))
            return True

        speaker.speak(frame["text"], frame["voice"], frame["speed"], emit)
        return length

    def _fail(self, stage: str, error: Exception) -> None:
        # The log has the details; who hears the session is told only where it failed.
        print(f"{stage} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201  # its log
        self._send({"type": "failed", "stage": stage})

    def _send(self, frame: Frame) -> None:
        with self._writing:
            self._sink.write(frames.packed(frame))
            self._sink.flush()

    def _read(self) -> Frame | None:
        header = self._source.read(frames.HEADER.size)
        if len(header) < frames.HEADER.size:
            return None
        length, kind = frames.HEADER.unpack(header)
        payload = self._source.read(length)
        return frames.unpacked(kind, payload) if len(payload) == length else None
