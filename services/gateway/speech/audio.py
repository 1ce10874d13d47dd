"""Samples: formats of the wire to and from int16, and a change of rate.

Formats are those of the Realtime API: `audio/pcm` is little-endian int16 at
24 kHz, `audio/pcmu` and `audio/pcma` are G.711 (ITU-T) at 8 kHz; all mono.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

RATES = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
BYTES = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}
TAPS = 16
"""Input samples that an output sample is made of."""


def decode(kind: str, encoded: bytes) -> Samples:
    """Return int16 samples [n] at RATES[kind]."""
    if kind == "audio/pcm":
        return np.frombuffer(encoded, "<i2").astype(np.int16)
    return np.take(_levels(kind), np.frombuffer(encoded, np.uint8))


def encode(kind: str, samples: Samples) -> bytes:
    """Return int16 samples [n] in the format `kind`."""
    if kind == "audio/pcm":
        return samples.astype("<i2").tobytes()
    codes, edges = _nearest(kind)
    return codes[np.searchsorted(edges, samples)].tobytes()


class Resampler:
    """Changes the rate of a stream by a windowed-sinc polyphase filter; keeps its history."""

    def __init__(self, source_hz: int, target_hz: int) -> None:
        common = math.gcd(source_hz, target_hz)
        self._up, self._down = target_hz // common, source_hz // common
        self._filter = _filter(self._up, self._down)
        self._history = np.zeros(TAPS - 1)
        self._next = 0  # position of the next output, in 1/up of an input sample

    def __call__(self, samples: Samples) -> Samples:
        """Return int16 [~n * target / source] of int16 [n]; equal rates pass as they are."""
        if self._up == self._down:
            return samples
        line = np.concatenate([self._history, samples])
        positions = np.arange(self._next, len(samples) * self._up, self._down)
        self._next = int(self._next + len(positions) * self._down - len(samples) * self._up)
        self._history = line[len(line) - (TAPS - 1) :]
        steps = np.arange(TAPS)
        taps = self._filter[(positions % self._up)[:, None] + steps * self._up]
        inputs = line[(positions // self._up)[:, None] + (TAPS - 1) - steps]
        summed = np.einsum("nt,nt->n", taps, inputs)
        whole: Samples = np.clip(np.rint(summed), -32768, 32767).astype(np.int16)
        return whole


@functools.lru_cache(maxsize=8)
def _filter(up: int, down: int) -> npt.NDArray[np.float64]:
    """Hann-windowed sinc [TAPS * up] that passes what both rates can hold."""
    length = TAPS * up
    cutoff = 0.92 / max(1.0, down / up)
    time = (np.arange(length) - (length - 1) / 2) / up
    window = np.hanning(length + 2)[1:-1]
    shape = np.sinc(time * cutoff) * window
    passing: npt.NDArray[np.float64] = shape * up / shape.sum()
    return passing


@functools.lru_cache(maxsize=2)
def _levels(kind: str) -> Samples:
    """The int16 value of each of the 256 codes."""
    of: Callable[[int], int] = _mu_law if kind == "audio/pcmu" else _a_law
    return np.array([of(code) for code in range(256)], np.int16)


@functools.lru_cache(maxsize=2)
def _nearest(kind: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Codes by rising value, and the edges between neighbouring values."""
    order = np.argsort(_levels(kind), kind="stable")
    values = _levels(kind)[order].astype(np.float64)
    return order.astype(np.uint8), (values[1:] + values[:-1]) / 2


def _mu_law(code: int) -> int:
    code = ~code & 0xFF
    level = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    return 0x84 - level if code & 0x80 else level - 0x84


def _a_law(code: int) -> int:
    code ^= 0x55
    segment, level = (code & 0x70) >> 4, (code & 0x0F) << 4
    level = level + 8 if segment == 0 else (level + 0x108) << (segment - 1)
    return level if code & 0x80 else -level
