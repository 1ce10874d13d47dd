"""Codes that make up for one another: what rounding one column did, later ones undo.

Rounding each weight to the nearest code minimises the change of the weights. What
matters is the change of the product, |(W - Q) X|, over inputs X as they occur: columns
are rounded one after another, and what a column lost is spread over those not rounded
yet as the second moments of the inputs say (optimal brain surgeon: Hassibi and Stork,
1992; GPTQ: Frantar et al., 2022, https://arxiv.org/abs/2210.17323). Scales and minima
stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from services.inference.models.group_codes import GroupFormat, Rows

_AT_ONCE = 64
"""Columns whose losses are kept before the columns behind them are told."""
_DAMPING = 0.01
"""Share of the mean second moment that each column has in itself: inputs that hardly
occur among those measured may do so elsewhere."""


def compensated(
    matrix: torch.Tensor, rows: Rows, form: GroupFormat, moments: torch.Tensor
) -> torch.Tensor:
    """Return numbers whose nearest codes compensate, for [outputs, inputs] float32.

    The grid is that of `rows`; `rounded_to` gives the codes. `moments` is [inputs, inputs]
    float32: the mean of x x^T over inputs x. The columns with the largest inputs come
    first, while there are many left to make up for them.
    """
    order = moments.diagonal().argsort(descending=True, stable=True)
    grid = _Grid(rows, form, order)
    _compensate(left := matrix[:, order], grid, _factor(moments[order][:, order]))
    return left[:, order.argsort()]


def rounded_to(rows: Rows, form: GroupFormat, numbers: torch.Tensor) -> Rows:
    """Return `rows` with the codes nearest to `numbers` ([outputs, inputs] float32)."""
    grid = _Grid(rows, form, torch.arange(numbers.shape[1]))
    codes = grid.codes(numbers.t(), slice(None)).t().byte()
    return Rows(codes.numpy(), rows.scales, rows.minima)


class _Grid:
    """Which numbers each column may become; columns lie in `order`."""

    def __init__(self, rows: Rows, form: GroupFormat, order: torch.Tensor) -> None:
        self._form = form
        self._scales = self._by_column(rows.scales)[order]
        self._minima = None if rows.minima is None else self._by_column(rows.minima)[order]

    def codes(self, numbers: torch.Tensor, place: Any) -> torch.Tensor:
        """Return the nearest codes, as float32; `numbers` are those of columns `place`."""
        scale, minimum = self._scales[place], self._minimum(place)
        steps = torch.where(scale != 0, (numbers - minimum) / scale, 0.0)
        return (steps + self._form.offset).round_().clamp_(0, (1 << self._form.bits) - 1)

    def nearest(self, numbers: torch.Tensor, place: Any) -> torch.Tensor:
        """Return what the nearest codes stand for."""
        codes = self.codes(numbers, place) - self._form.offset
        return codes * self._scales[place] + self._minimum(place)

    def _minimum(self, place: Any) -> torch.Tensor | float:
        return 0.0 if self._minima is None else self._minima[place]

    def _by_column(self, halves: npt.NDArray[np.float16]) -> torch.Tensor:
        """Return one number a weight, [inputs, outputs], for [outputs, groups]."""
        groups = torch.from_numpy(halves.astype(np.float32)).t()
        return groups.repeat_interleave(self._form.group, 0)


def _compensate(left: torch.Tensor, grid: _Grid, factor: torch.Tensor) -> None:
    """Let columns behind make up for what those before lose in rounding, in place."""
    for start in range(0, left.shape[1], _AT_ONCE):
        stop = min(start + _AT_ONCE, left.shape[1])
        losses = torch.empty(len(left), stop - start)
        for column in range(start, stop):
            lost = left[:, column] - grid.nearest(left[:, column], column)
            losses[:, column - start] = lost / factor[column, column]
            behind = slice(column + 1, stop)
            left[:, behind] -= torch.outer(losses[:, column - start], factor[column, behind])
        left[:, stop:] -= losses @ factor[start:stop, stop:]


def _factor(moments: torch.Tensor) -> torch.Tensor:
    """Return the upper Cholesky factor of the inverse: row i is what column i asks of others."""
    damping = _DAMPING * moments.diagonal().double().mean().clamp(min=1e-12)
    damped = moments.double() + torch.eye(len(moments)).double() * damping
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor.float()
