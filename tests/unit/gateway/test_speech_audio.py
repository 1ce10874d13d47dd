"""Samples keep their sound through formats and rates, and frames their content."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.speech import frames
from services.gateway.speech.audio import Resampler, decode, encode


def tone(rate_hz, hz=440.0, seconds=0.5):
    """int16 samples of a sine."""
    time = np.arange(int(rate_hz * seconds)) / rate_hz
    return (np.sin(2 * np.pi * hz * time) * 12_000).astype(np.int16)


def strongest_hz(samples, rate_hz):
    """The frequency with the most energy."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return np.argmax(spectrum) * rate_hz / len(samples)


@pytest.mark.parametrize("kind", ["audio/pcm", "audio/pcmu", "audio/pcma"])
@given(st.binary(min_size=0, max_size=64).filter(lambda raw: len(raw) % 2 == 0))
def test_what_was_decoded_encodes_to_the_same_sound(kind, raw):
    """Every code survives the way there and back, as a level."""
    samples = decode(kind, raw)
    assert np.array_equal(decode(kind, encode(kind, samples)), samples)


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_codes_are_near_the_sound(kind):
    """G.711 keeps a tone within a few per cent of its level, silence within a step."""
    sound = tone(8_000)
    back = decode(kind, encode(kind, sound)).astype(float)
    assert np.max(np.abs(back - sound)) < 0.05 * 12_000
    assert abs(int(decode(kind, encode(kind, np.zeros(1, np.int16)))[0])) <= 8


@pytest.mark.parametrize(
    ("source", "target"), [(24_000, 16_000), (8_000, 16_000), (22_050, 24_000), (16_000, 16_000)]
)
def test_a_tone_keeps_its_height_and_level_at_another_rate(source, target):
    """440 Hz stay 440 Hz, as loud as before."""
    heard = Resampler(source, target)(tone(source))
    assert abs(len(heard) - target // 2) <= 2
    middle = heard[len(heard) // 4 : -len(heard) // 4]
    assert strongest_hz(middle, target) == pytest.approx(440, abs=6)
    assert np.max(np.abs(middle)) == pytest.approx(12_000, rel=0.05)


@given(st.lists(st.integers(1, 700), min_size=1, max_size=20))
def test_pieces_give_the_samples_of_the_whole(lengths):
    """However a stream is cut, the samples at the other rate are the same."""
    sound = tone(24_000)[: sum(lengths)]
    whole = Resampler(24_000, 16_000)(sound)
    cut = Resampler(24_000, 16_000)
    edges = np.cumsum([0, *lengths])
    pieces = [cut(sound[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(pieces), whole)


@given(st.integers(0, 2**32 - 1), st.binary(max_size=64), st.dictionaries(st.text(), st.integers()))
def test_frames_are_read_as_they_were_written(clause, samples, members):
    """Audio and JSON frames come back whole."""
    for frame in (frames.Audio(clause, samples), {"type": "x"} | members):
        source = io.BytesIO(frames.packed(frame))
        length, kind = frames.HEADER.unpack(source.read(frames.HEADER.size))
        assert frames.unpacked(kind, source.read(length)) == frame
        assert source.read() == b""
