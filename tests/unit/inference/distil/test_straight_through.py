"""Rounding in training: the numbers of the file, and gradients past them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.inference.distil.straight_through import COMPENSATION, Matrix
from services.inference.models.group_codes import GroupFormat, stored, taken_apart
from services.inference.quantise.rounding import rounded

FORMATS = [
    GroupFormat(2, 32, True),
    GroupFormat(4, 64, True),
    GroupFormat(4, 32, False),
    GroupFormat(8, 64, False),
]


def matrix(form, seed=0, rows=6, columns=64):
    """A random matrix as plain rounding begins it."""
    numbers = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return Matrix(numbers.clone(), rounded(numbers, np.ones(columns, "f4"), form), form)


@given(st.sampled_from(FORMATS), st.integers(0, 1000))
def test_what_is_trained_is_what_is_stored(form, seed):
    """The weights of a step are bit for bit those that the file gives back."""
    trained = matrix(form, seed)
    trained.latent.mul_(1.3)
    content = stored(trained.rows(), form)
    read = taken_apart(content, form, 64).weights(form)

    assert np.array_equal(trained.rounded().numpy(), read)


def test_a_gradient_is_larger_where_it_leads_back():
    """Of two weights at equal distance of their number, the one that returns moves more."""
    trained = matrix(GroupFormat(4, 32, False))
    low, ones = trained.gradients(-torch.ones(6, 64)).latent, torch.ones(6, 64)
    high = trained.gradients(ones).latent
    error = (trained.latent - trained.rounded()) / trained.scale.half().float().repeat_interleave(
        32, 1
    )
    inside = error.abs() <= 0.5

    assert torch.allclose(high[inside], (1 + 2 * COMPENSATION * error)[inside], atol=1e-3)
    assert torch.allclose(low[inside], -(1 - 2 * COMPENSATION * error)[inside], atol=1e-3)
    assert not high[~inside].any()


@pytest.mark.parametrize("form", FORMATS)
def test_scales_and_minima_follow_their_true_slope(form):
    """Where no code changes, the gradients are those of finite differences."""
    trained = matrix(form)
    given_gradient = torch.randn(6, 64, generator=torch.Generator().manual_seed(5))
    codes = torch.from_numpy(trained.rows().codes.astype("f4")).view(6, -1, form.group)
    found = trained.gradients(given_gradient)
    grouped = given_gradient.view(6, -1, form.group)
    steps = codes - form.offset
    # Inside the grid a weight moves with it (straight through), which leaves the error.
    scale = trained.scale.half().float()[..., None]
    minimum = 0 if trained.minimum is None else trained.minimum.half().float()[..., None]
    exact = (trained.latent.view_as(grouped) - minimum) / scale
    inside = ((exact - steps).abs() <= 0.5).float()

    expected = (grouped * (steps - inside * exact)).sum(-1)
    assert torch.allclose(found.scale, expected, atol=1e-3)
    if trained.minimum is not None:
        assert torch.allclose(found.minimum, (grouped * (1 - inside)).sum(-1), atol=1e-3)


@pytest.mark.slow
def test_descent_finds_better_numbers_than_rounding():
    """Trained for a product, few bits come closer to it than nearest rounding does."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(256, 64, generator=generator) @ torch.randn(64, 64, generator=generator)
    inputs[:, :4] *= 4
    trained = matrix(GroupFormat(3, 32, True))
    wanted = inputs @ trained.latent.clone().t()
    optimizer = torch.optim.Adam(trained.parameters, lr=0.02)

    def loss():
        return float((inputs @ trained.rounded().t() - wanted).square().mean())

    before = loss()
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 200)
        error = inputs @ trained.rounded().t() - wanted
        found = trained.gradients(error.t() @ inputs / len(inputs))
        for tensor, gradient in zip(trained.parameters, vars(found).values(), strict=True):
            tensor.grad = gradient
        optimizer.step()

    assert loss() < 0.8 * before
