"""When a user begins to speak, pauses and has finished, from the probability of each frame.

    idle --speech for START_FRAMES--> speaking --silence of PAUSE_MS--> paused
    paused --speech--> speaking; paused --silence of silence_ms--> idle

A pause is when an answer may be begun in advance; the end of the silence is
when the turn is over.
"""

from __future__ import annotations

import enum

FRAME_MS = 32
"""512 samples at 16 kHz, what silero-vad reads at once."""

START_FRAMES = 3
PAUSE_MS = 192
RELEASE = 0.15
"""Speech goes on until its probability is this far below the threshold."""


class Mark(enum.Enum):
    """What happened at a frame."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPED = "stopped"


class TurnDetector:
    """The state above; one for a session."""

    def __init__(self, threshold: float, silence_ms: int) -> None:
        self._threshold = threshold
        self._silence_ms = silence_ms
        self._speech_frames = 0
        self._silent_frames = 0
        self.is_speaking = False
        self.is_paused = False

    @property
    def silence_ms(self) -> int:
        """How long nothing has been said; after a turn, the silence that ended it."""
        return self._silent_frames * FRAME_MS

    def feed(self, probability: float) -> list[Mark]:
        """Return the marks of the next frame, given its probability of speech."""
        return self._speaking(probability) if self.is_speaking else self._idle(probability)

    def reset(self) -> None:
        """Forget the turn."""
        self._speech_frames = 0
        self.is_speaking = self.is_paused = False

    def _idle(self, probability: float) -> list[Mark]:
        self._speech_frames = self._speech_frames + 1 if probability >= self._threshold else 0
        if self._speech_frames < START_FRAMES:
            return []
        self.is_speaking, self._silent_frames = True, 0
        return [Mark.STARTED]

    def _speaking(self, probability: float) -> list[Mark]:
        if probability >= self._threshold - RELEASE:
            self._silent_frames = 0
            was_paused, self.is_paused = self.is_paused, False
            return [Mark.RESUMED] if was_paused else []
        self._silent_frames += 1
        marks = []
        if not self.is_paused and self.silence_ms >= min(PAUSE_MS, self._silence_ms):
            self.is_paused = True
            marks.append(Mark.PAUSED)
        if self.silence_ms >= self._silence_ms:
            self.reset()
            marks.append(Mark.STOPPED)
        return marks
