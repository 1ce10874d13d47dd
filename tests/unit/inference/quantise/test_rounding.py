"""Weights rounded to groups of few bits."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from services.inference.models.group_codes import GroupFormat
from services.inference.quantise.rounding import rounded

FORMATS = [
    GroupFormat(bits, group, has_minimum)
    for has_minimum in (False, True)
    for bits in ((2, 3, 4) if has_minimum else (3, 4, 5, 6, 8))
    for group in (32, 64)
]
EVEN = np.ones(64, dtype=np.float32)


def drawn(seed, rows=40):
    """Return weights like those of a network: mostly small, some large."""
    return torch.from_numpy(np.random.default_rng(seed).standard_t(5, (rows, 64)).astype("f4"))


def error(matrix, form, importance=EVEN):
    """Return the squared error of rounding, columns weighted."""
    weights = rounded(matrix, importance, form).weights(form)
    return float((((weights - matrix.numpy()) ** 2) * importance).sum())


def nearest_error(matrix, form):
    """Return the squared error of the grid from extreme to extreme."""
    groups = matrix.numpy().reshape(-1, form.group)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    if not form.has_minimum:
        high = np.abs(groups).max(1, keepdims=True) * (1 - 2.0 ** (1 - form.bits))
        low = -high / (1 - 2.0 ** (1 - form.bits))
    scale = (high - low) / (2**form.bits - 1)
    codes = np.clip(np.round((groups - low) / scale), 0, 2**form.bits - 1)
    return float(((codes * scale + low - groups) ** 2).sum())


@pytest.mark.parametrize("form", FORMATS)
def test_searching_beats_the_extremes(form):
    """The error is below that of nearest codes on the grid from smallest to largest."""
    matrix = drawn(1)
    assert error(matrix, form) < nearest_error(matrix, form)


@given(st.sampled_from(FORMATS), st.integers(0, 1 << 32))
def test_codes_fit_their_bits(form, seed):
    """Codes stay in range and scales are finite, whatever the weights' size."""
    size = 10.0 ** np.random.default_rng(seed).integers(-8, 6)
    rows = rounded(drawn(seed, 3) * size, EVEN, form)
    assert rows.codes.max() < 1 << form.bits
    assert np.isfinite(rows.weights(form)).all()


@pytest.mark.parametrize("form", FORMATS)
def test_weights_on_the_grid_are_kept(form):
    """Groups whose weights are all alike, and rows of zeros, lose nothing."""
    matrix = torch.tensor([[0.0], [1.5], [-0.25]]).repeat(1, 64)
    np.testing.assert_array_equal(rounded(matrix, EVEN, form).weights(form), matrix)


@pytest.mark.parametrize("form", FORMATS)
def test_important_columns_are_nearer(form):
    """A column that counts a hundred times as much is rounded with less error."""
    matrix = drawn(2)
    favoured = EVEN.copy()
    favoured[:4] = 100.0
    assert error(matrix, form, favoured) < error(matrix, form) + 99 * float(
        ((rounded(matrix, EVEN, form).weights(form) - matrix.numpy())[:, :4] ** 2).sum()
    )
