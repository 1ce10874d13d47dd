"""Engines behind an OpenAI-compatible `/v1/audio`, for those who run better ones.

Blocking, with plain `urllib`: each call runs in a thread of the speech process.
"""

from __future__ import annotations

import io
import json
import urllib.request
import uuid
import wave

import numpy as np

from services.gateway.speech.audio import Samples
from services.gateway.speech.engines import HEARING_HZ, Emit

TIMEOUT_SECONDS = 20.0
CHUNK_BYTES = 4800
"""0.1 s of speech at 24 kHz."""


class RemoteRecogniser:
    """`/audio/transcriptions`; there are no words before the end."""

    def __init__(self, url: str, model: str, key: str) -> None:
        self._url = url.rstrip("/") + "/audio/transcriptions"
        self._model = model
        self._key = key
        self._heard: list[Samples] = []

    def begin(self) -> None:
        """Start an utterance."""
        self._heard = []

    def feed(self, samples: Samples) -> None:
        """Keep int16 [n] at 16 kHz."""
        self._heard.append(samples)

    def partial(self) -> str:
        """Return nothing: the engine hears whole utterances."""
        return ""

    def end(self) -> tuple[str, float]:
        """Return the words; the confidence is not told. Raises OSError."""
        boundary = uuid.uuid4().hex
        body = _form(boundary, self._model, _wav(self._heard))
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with _post(self._url, body, headers, self._key) as answer:
            return str(json.load(answer)["text"]).strip(), 0.0


class RemoteSpeaker:
    """`/audio/speech` as raw PCM, streamed."""

    rate_hz = 24_000

    def __init__(self, url: str, model: str, key: str) -> None:
        self._url = url.rstrip("/") + "/audio/speech"
        self._model = model
        self._key = key

    def speak(self, text: str, voice: str, speed: float, emit: Emit) -> None:
        """Give samples to `emit` as they come. Raises OSError."""
        wanted = {
            "model": self._model,
            "input": text,
            "voice": voice,
            "speed": speed,
            "response_format": "pcm",
        }
        headers = {"Content-Type": "application/json"}
        with _post(self._url, json.dumps(wanted).encode(), headers, self._key) as answer:
            rest = b""
            while chunk := answer.read(CHUNK_BYTES):
                whole = rest + chunk
                rest = whole[len(whole) // 2 * 2 :]
                if not emit(np.frombuffer(whole[: len(whole) // 2 * 2], "<i2").astype(np.int16)):
                    return


def _post(url: str, body: bytes, headers: dict[str, str], key: str) -> io.BufferedIOBase:
    if key:
        headers = headers | {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  # configured
    answer: io.BufferedIOBase = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310  # likewise
    return answer


def _wav(heard: list[Samples]) -> bytes:
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HEARING_HZ)
        file.writeframes(b"".join(samples.astype("<i2").tobytes() for samples in heard))
    return written.getvalue()


def _form(boundary: str, model: str, file: bytes) -> bytes:
    fields = {"model": model, "response_format": "json"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; "
        'name="file"; filename="speech.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    )
    return b"".join([*parts, head.encode(), file, f"\r\n--{boundary}--\r\n".encode()])
