"""Token vectors: means by hand, and what a task told by them is worth."""

from __future__ import annotations

import numpy as np
import pytest

from services.feature.glance import OPENING, Glance

WIDTH = 2


def glance(*words):
    """One that looks at ids written as a text, after a norm that only centres and scales."""
    return Glance(
        words=np.array(words, np.float32),
        positions=np.zeros((64, WIDTH), np.float32),
        weight=np.ones(WIDTH, np.float32),
        bias=np.zeros(WIDTH, np.float32),
        epsilon=0.0,
        tokenise=lambda text: [0, *map(int, text.split()), 0],
    )


def test_the_mean_of_all_and_that_of_the_opening_are_directions():
    """Normalised, (3, 1) is (1, -1) and (1, 3) is (-1, 1); the special tokens do not count."""
    look = glance((0, 9), (3, 1), (1, 3))
    opening, rest = " ".join(["1"] * OPENING), " ".join(["2"] * 3 * OPENING)
    found = look(f"{opening} {rest}")

    half = np.sqrt(0.5)
    assert found == pytest.approx([-half, half, half, -half])
    assert found.dtype == np.float32


def test_a_text_without_a_word_says_nothing():
    """Its vector is zero, of the same length."""
    assert glance((0, 9))("").tolist() == [0.0] * 2 * WIDTH
