"""Hears a session: frames of audio to marks of turns and words.

The utterance is ended at the first pause, not at the end of the turn, so that
the words are final while the silence is still being waited for; speech after a
pause is the next utterance of the same turn.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from services.gateway.speech.audio import RATES, Resampler, Samples, decode
from services.gateway.speech.engines import HEARING_HZ, Activity, Recogniser, milliseconds
from services.gateway.speech.turns import FRAME_MS, START_FRAMES, Mark, TurnDetector

FRAME = HEARING_HZ * FRAME_MS // 1000
PARTIAL_FRAMES = 8
"""Words so far are told this often, about four times a second."""

MAX_TURN_MS = 60_000
"""A turn that is longer is ended, so that nothing grows without bound."""

Json = dict[str, Any]


class Listener:
    """One session's ears; `silence_ms` None: the client says when a turn is over."""

    def __init__(
        self,
        activity: Activity,
        recogniser: Recogniser,
        *,
        kind: str = "audio/pcm",
        threshold: float = 0.5,
        silence_ms: int | None = 500,
        prefix_ms: int = 300,
    ) -> None:
        self._activity = activity
        self._recogniser = recogniser
        self._kind = kind
        self._resample = Resampler(RATES[kind], HEARING_HZ)
        self._detector = None if silence_ms is None else TurnDetector(threshold, silence_ms)
        self._rest = np.zeros(0, np.int16)
        self._recent: deque[Samples] = deque(maxlen=max(1, prefix_ms // FRAME_MS + 3))
        self._frames = 0
        self._started_ms: int | None = None
        self._is_open = False
        self._speech_frames = 0
        self._text = self._told = ""
        self._confidence = self._recognition_ms = 0.0

    def hear(self, encoded: bytes) -> list[Json]:
        """Return what the next audio tells."""
        samples = self._resample(decode(self._kind, encoded))
        line = np.concatenate([self._rest, samples])
        whole = len(line) // FRAME * FRAME
        self._rest = line[whole:]
        told: list[Json] = []
        for frame in line[:whole].reshape(-1, FRAME):
            told += self._frame(frame)
        return told

    def commit(self) -> list[Json]:
        """End the turn now; a turn in which nothing was said has no words."""
        told = self._pause() if self._is_open else []
        return [*told, self._stopped()]

    def clear(self) -> list[Json]:
        """Forget the turn."""
        if self._is_open:
            self._recogniser.end()
        self._reset()
        return [{"type": "cleared"}]

    @property
    def _now_ms(self) -> int:
        return self._frames * FRAME_MS

    def _frame(self, frame: Samples) -> list[Json]:
        self._frames += 1
        if self._detector is None:
            return self._unmarked(frame)
        marks = self._detector.feed(self._activity.probability(frame))
        self._recent.append(frame)
        told: list[Json] = []
        for mark in marks:
            told += self._marked(mark)
        if self._is_open and Mark.STARTED not in marks and Mark.RESUMED not in marks:
            told += self._recognise(frame)
        return told + self._bounded()

    def _unmarked(self, frame: Samples) -> list[Json]:
        if self._started_ms is None:
            self._open(self._now_ms - FRAME_MS)
        return self._recognise(frame) + self._bounded()

    def _bounded(self) -> list[Json]:
        if self._started_ms is None or self._now_ms - self._started_ms < MAX_TURN_MS:
            return []
        return self.commit()

    def _marked(self, mark: Mark) -> list[Json]:
        if mark is Mark.STARTED:
            self._open(max(0, self._now_ms - len(self._recent) * FRAME_MS))
            self._replay()
            return [{"type": "started", "audio_start_ms": self._started_ms}]
        if mark is Mark.RESUMED:
            self._open(self._started_ms)
            self._replay()
            return [{"type": "resumed"}]
        return self._pause() if mark is Mark.PAUSED else [self._stopped()]

    def _open(self, started_ms: int | None) -> None:
        self._started_ms = started_ms
        self._is_open = True
        self._recogniser.begin()

    def _replay(self) -> None:
        """Let the recogniser hear what came just before speech was noticed."""
        for frame in self._recent:
            self._recogniser.feed(frame)
        self._speech_frames += START_FRAMES

    def _recognise(self, frame: Samples) -> list[Json]:
        self._recogniser.feed(frame)
        is_silent = self._detector is not None and self._detector.silence_ms > 0
        self._speech_frames += not is_silent
        if self._frames % PARTIAL_FRAMES:
            return []
        text = self._joined(self._recogniser.partial())
        if not text or text == self._told:
            return []
        self._told = text
        return [{"type": "partial", "text": text, "speech_ms": self._speech_ms}]

    def _pause(self) -> list[Json]:
        began = milliseconds()
        text, confidence = self._recogniser.end()
        self._is_open = False
        self._recent.clear()
        self._text, self._confidence = self._joined(text), confidence
        self._recognition_ms = milliseconds() - began
        return [{"type": "paused", **self._words()}]

    def _stopped(self) -> Json:
        silence_ms = self._detector.silence_ms if self._detector else 0
        told = {
            "type": "stopped",
            "audio_start_ms": self._started_ms or 0,
            "audio_end_ms": self._now_ms,
            "silence_ms": silence_ms,
            "recognition_ms": round(self._recognition_ms, 3),
            **self._words(),
        }
        self._reset()
        return told

    def _words(self) -> Json:
        return {"text": self._text, "confidence": self._confidence, "speech_ms": self._speech_ms}

    @property
    def _speech_ms(self) -> int:
        return self._speech_frames * FRAME_MS

    def _joined(self, text: str) -> str:
        return f"{self._text} {text}".strip()

    def _reset(self) -> None:
        if self._detector:
            self._detector.reset()
        self._recent.clear()
        self._started_ms = None
        self._is_open = False
        self._speech_frames = 0
        self._text = self._told = ""
        self._confidence = self._recognition_ms = 0.0
