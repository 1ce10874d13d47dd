"""Codes that make up for one another: of one matrix, and through a whole network."""

import dataclasses

import pytest
import torch
from quantised_network import SMALL, QuantisedTensors

from services.inference.models.group_codes import GroupFormat
from services.inference.quantise import compensating
from services.inference.quantise.compensation import compensated, rounded_to
from services.inference.quantise.divergence import Yardstick
from services.inference.quantise.rounding import rounded

# Of few words, so that inputs have something in common.
TEXTS = torch.randint(0, 6, (24, 48), generator=torch.Generator().manual_seed(3))
FORMS = (GroupFormat(3, 32, True), GroupFormat(4, 64, False))


def matrix(seed=1):
    """Some weights, [48, 128]."""
    return torch.randn(48, 128, generator=torch.Generator().manual_seed(seed))


def plainly(numbers, form):
    """Rows of the numbers, each rounded for itself."""
    return rounded(numbers, torch.ones(numbers.shape[1]).numpy(), form)


@pytest.mark.parametrize("form", FORMS)
def test_the_product_changes_less_than_by_rounding_each_weight(form):
    """With inputs that go together, what a column loses others make up for."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(600, 20, generator=generator) @ torch.randn(20, 128, generator=generator)
    inputs += 0.1 * torch.randn(600, 128, generator=generator)
    numbers, grid = matrix(), plainly(matrix(), form)

    found = compensated(numbers, grid, form, inputs.t() @ inputs / len(inputs))

    errors = [
        (inputs @ (torch.from_numpy(rows.weights(form)) - numbers).t()).square().mean()
        for rows in (rounded_to(grid, form, found), rounded_to(grid, form, numbers))
    ]
    assert errors[0] < 0.4 * errors[1]


@pytest.mark.parametrize("form", FORMS)
def test_inputs_that_have_nothing_in_common_change_nothing(form):
    """Then there is nothing to make up with: the numbers stay, and so do the codes."""
    numbers = matrix()

    found = compensated(numbers, plainly(numbers, form), form, torch.diag(torch.rand(128) + 0.5))

    assert torch.allclose(found, numbers, atol=1e-5)


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_network_becomes_what_is_yielded(is_tied):
    """Every matrix once, and the weights are what its codes stand for."""
    config = dataclasses.replace(SMALL, tied_embeddings=is_tied)
    _, weights, grids, found = rounded_through(config)

    assert set(found) == set(grids)
    for name, numbers in found.items():
        stored = rounded_to(grids[name], FORMS[0], numbers).weights(FORMS[0])
        assert torch.equal(weights.destinations(config)[name], torch.from_numpy(stored))


def test_a_network_is_nearer_to_the_original():
    """Than with each weight rounded for itself, on texts that it was not fitted to."""
    plain, weights, _, _ = rounded_through(SMALL)

    yardstick = Yardstick(SMALL, QuantisedTensors(SMALL).reference()._weights, TEXTS[20:])

    assert yardstick.measure(weights).mean < 0.9 * yardstick.measure(plain).mean


def rounded_through(config):
    """Weights rounded plainly and layer after layer, the grids, and what was yielded."""
    plain, weights = (QuantisedTensors(config).reference()._weights for _ in range(2))
    views = plain.destinations(config)
    grids = {n: plainly(v.contiguous(), FORMS[0]) for n, v in views.items() if v.dim() > 1}
    for name, rows in grids.items():
        views[name].copy_(torch.from_numpy(rows.weights(FORMS[0])))
    mix = dict.fromkeys(grids, FORMS[0])
    found = compensating.numbers(config, weights, TEXTS[:20], mix, grids.__getitem__)
    return plain, weights, grids, dict(found)
