"""The factor on temperature that makes up for what rounding did to a network's confidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.quantise import temperature
from services.inference.quantise.temperature import Calibration, Factor, calibrated, factor

SURE = Factor(1.2, 1.1, 1.3)
UNSURE = Factor(1.05, 0.95, 1.15)


def texts(seed: int, tokens: int = 130, vocabulary: int = 40) -> list[torch.Tensor]:
    """Logits of two texts."""
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(tokens, vocabulary, generator=generator) for _ in range(2)]


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(0.72, 1.4), shift=st.floats(-5, 5), seed=st.integers(0, 99))
def test_logits_that_are_scaled_are_scaled_back(scale: float, shift: float, seed: int) -> None:
    """A network that is the original but for a factor gets just that one, whatever its offset."""
    pairs = [(each.log_softmax(-1), scale * each + shift) for each in texts(seed)]
    found = calibrated(pairs)
    for each in (found.entropy, found.divergence):
        assert each.value == pytest.approx(scale, rel=2e-3)
        assert each.low <= each.value * (1 + 1e-9)
        assert each.high >= each.value * (1 - 1e-9)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), noise=st.floats(0.2, 1.0))
def test_the_matched_factor_has_the_least_divergence(seed: int, noise: float) -> None:
    """No other factor nearby brings a noisy network closer to the original."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [
        (each.log_softmax(-1), each + noise * torch.randn(each.shape, generator=generator))
        for each in texts(seed)
    ]

    def divergence(each: float) -> float:
        kls = [
            (original.exp() * (original - (changed / each).log_softmax(-1))).sum(-1).mean()
            for original, changed in pairs
        ]
        return float(torch.stack(kls).double().mean())

    best = calibrated(pairs).divergence.value
    assert divergence(best) <= min(divergence(best * 0.97), divergence(best * 1.03)) + 1e-6


def test_what_may_be_one_is_one() -> None:
    """Temperatures are left alone unless the interval is sure of a difference."""
    assert Calibration(SURE, UNSURE).chosen == 1.0
    assert Calibration(UNSURE, SURE).chosen == 1.2
    assert Calibration(SURE, SURE).as_json()["divergence"] == vars(SURE)


@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=40), st.integers(0, 9))
@pytest.mark.slow
def test_an_interval_holds_its_factor_and_is_repeatable(roots: list[float], seed: int) -> None:
    """Pieces that differ widen the interval; the same seed gives the same one."""
    curves = temperature._LOGARITHMS[None, :] - np.array(roots)[:, None]
    found = factor(curves, seed)
    assert found == factor(curves, seed)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    assert found.value == pytest.approx(np.exp(np.mean(roots)), rel=1e-6)
