"""Rotary frequencies and the limits of a network's shape."""

import dataclasses
import math

import numpy as np
import pytest

from services.inference.models.config import ModelConfig, RopeScaling, inverse_frequencies

PLAIN = ModelConfig("llama", 8192, 1000, 2, 64, 4, 2, 64, 128, 500_000.0, 1e-5)


def scaled(**scaling):
    return inverse_frequencies(dataclasses.replace(PLAIN, rope_scaling=RopeScaling(**scaling)))


def test_frequencies_fall_geometrically_from_one():
    """Frequency i is theta ** (-2 i / head_size)."""
    frequencies = inverse_frequencies(PLAIN)

    assert frequencies[0] == 1.0
    assert frequencies[16] == pytest.approx(500_000.0**-0.5)


def test_linear_scaling_divides_all():
    """Every wave is longer by the factor."""
    np.testing.assert_allclose(scaled(kind="linear", factor=4.0), inverse_frequencies(PLAIN) / 4)


def test_llama3_scaling_keeps_short_waves_and_stretches_long_ones():
    """Waves under 8192 / 4 positions stay, over 8192 / 1 stretch by the factor."""
    plain = inverse_frequencies(PLAIN)
    frequencies = scaled(kind="llama3", factor=8.0)

    lengths = 2 * math.pi / plain
    ratio = plain / frequencies
    np.testing.assert_allclose(ratio[lengths < 2048], 1.0, rtol=1e-6)
    np.testing.assert_allclose(ratio[lengths > 8192], 8.0, rtol=1e-6)
    between = ratio[(lengths > 2048) & (lengths < 8192)]
    assert between.size > 0
    assert bool(((between > 1) & (between < 8)).all())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"heads": 3}, "no multiple of kv_heads"),
        ({"head_size": 63}, "is odd"),
        ({"rope_theta": math.inf}, "rope_theta is inf"),
        ({"rope_scaling": RopeScaling("linear", 0.0)}, "scaling factor is 0.0"),
        ({"vocabulary_size": 1 << 40}, "vocabulary_size"),
    ],
)
def test_impossible_shapes_are_named(change, problem):
    """A problem is told in words, a sound shape has none."""
    found = dataclasses.replace(PLAIN, **change).problem()

    assert (problem is None and found is None) or problem in found
