"""What a voice session needs of speech: events, and a Protocol; `process` and fakes fulfil it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Format:
    """What the client sends; `silence_ms` None: the client itself says when a turn is over."""

    kind: str = "audio/pcm"
    threshold: float = 0.5
    silence_ms: int | None = 500
    prefix_ms: int = 300


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a turn so far; `confidence` in [0, 1], 0: unknown."""

    text: str
    speech_ms: int
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """The user began to speak at `audio_start_ms` of the session's audio."""

    audio_start_ms: int


@dataclass(frozen=True, slots=True)
class Partial:
    """More words were heard."""

    words: Words


@dataclass(frozen=True, slots=True)
class Paused:
    """The user is silent; these are the words unless speech goes on."""

    words: Words


@dataclass(frozen=True, slots=True)
class Resumed:
    """Speech goes on after a pause."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The turn is over after `silence_ms`; its words were ready `recognition_ms` into that."""

    words: Words
    audio_end_ms: int
    silence_ms: int = 0
    recognition_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was appended is forgotten."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A stage (`recognition`, `speech`) failed; `is_over`: the whole process is gone."""

    stage: str
    is_over: bool = False


Heard = Started | Partial | Paused | Resumed | Stopped | Cleared | Failed


@dataclass(frozen=True, slots=True)
class Speaking:
    """Encoded samples; `synthesis_ms` on the first of a clause: how long they took to make."""

    samples: bytes
    length_ms: float
    synthesis_ms: float | None = None


class Speech(Protocol):
    """Ears and a mouth for one session."""

    async def listen(self, wanted: Format) -> None:
        """Begin to hear in this format; forgets the turn under way."""
        ...

    async def hear(self, samples: bytes) -> None:
        """Hear encoded samples; waits while the ears are behind."""
        ...

    async def commit(self) -> None:
        """End the turn now; answered by Stopped."""
        ...

    async def clear(self) -> None:
        """Forget the turn; answered by Cleared."""
        ...

    def events(self) -> AsyncIterator[Heard]:
        """Yield what is heard until the session closes."""
        ...

    def speak(self, text: str, kind: str, voice: str, speed: float) -> AsyncGenerator[Speaking]:
        """Yield a clause as speech, as it is made; one at a time."""
        ...

    async def hush(self) -> None:
        """Stop speaking what was asked for so far."""
        ...

    async def close(self) -> None:
        """End it; nothing is left running."""
        ...


class SpeechSource(Protocol):
    """Where sessions get speech from."""

    @property
    def is_there(self) -> bool:
        """Whether speech can be had at all."""
        ...

    async def open(self) -> Speech:
        """Return speech for one session; raise ResourceExhausted, or Unimplemented without it."""
        ...
