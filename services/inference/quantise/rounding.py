"""Weights -> groups of few bits, with scales searched for instead of taken from the extremes.

For each group, several widths of the grid are tried; each is improved by least
squares over the codes it gave, and the one with the smallest squared error,
columns weighted by their importance, is kept: the idea of llama.cpp's
`make_qkx3_quants` and of HQQ (Badri and Shaji, 2023, https://mobiusml.github.io/hqq_blog/).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from services.inference.models.group_codes import GroupFormat, Rows

WIDTHS = (1.0, 0.92, 0.84, 0.75, 0.65, 0.55)
"""Of the range from the smallest to the largest weight of a group."""
_PIECE_WEIGHTS = 1 << 18
"""Weights rounded at once: what a second level cache holds with its company."""
_LARGEST = 65504.0


def rounded(
    matrix: torch.Tensor,
    importance: npt.NDArray[np.float32],
    form: GroupFormat,
    widths: tuple[float, ...] = WIDTHS,
) -> Rows:
    """Round `matrix` ([outputs, inputs] float32) with columns of `importance` ([inputs])."""
    columns = matrix.shape[1]
    weight = torch.from_numpy(importance / max(float(importance.mean()), 1e-30)) + 1e-3
    weight = weight.view(-1, form.group)
    step = max(1, _PIECE_WEIGHTS // columns)
    pieces = [
        _piece(matrix[first : first + step].reshape(-1, *weight.shape), weight, form, widths)
        for first in range(0, len(matrix), step)
    ]
    codes, scales, minima = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    halves = (len(matrix), columns // form.group)
    return Rows(
        codes.reshape(len(matrix), columns),
        scales.reshape(halves),
        minima.reshape(halves) if form.has_minimum else None,
    )


def _piece(
    groups: torch.Tensor, weight: torch.Tensor, form: GroupFormat, widths: tuple[float, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16], npt.NDArray[np.float16]]:
    grid = _Grid(groups, weight, form)
    for width in widths:
        grid.offer(*grid.refitted(*grid.spanning(width)))
    grid.offer(*grid.refitted(grid.scale, grid.minimum))
    codes = grid.codes(grid.scale, grid.minimum)
    scales, minima = (half.squeeze(-1).half().numpy() for half in (grid.scale, grid.minimum))
    return codes.byte().numpy(), scales, minima


class _Grid:
    """The best grids so far of many groups; scales and minima are [rows, groups, 1]."""

    def __init__(self, groups: torch.Tensor, weight: torch.Tensor, form: GroupFormat) -> None:
        self._groups = groups
        self._weight = weight
        self._form = form
        self._total = weight.sum(-1, keepdim=True)
        self._mean = (groups * weight).sum(-1, keepdim=True) / self._total
        self.scale = torch.zeros_like(self._mean)
        self.minimum = torch.zeros_like(self._mean)
        self._error = torch.full_like(self._mean, torch.inf)

    def spanning(self, width: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (scale, minimum) of grids over the middle `width` of each group's range."""
        low, high = self._groups.aminmax(dim=-1, keepdim=True)
        levels = (1 << self._form.bits) - 1
        if self._form.has_minimum:
            scale = (high - low) * (width / levels)
            return scale, low + (high - low) * ((1 - width) / 2)
        # The code range has one more step below 0 than above: it goes to the larger side.
        farthest = torch.where(high > -low, high, low)
        return farthest * (-width / self._form.offset), torch.zeros_like(low)

    def refitted(
        self, scale: torch.Tensor, minimum: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the (scale, minimum) that fit best the codes of the given ones."""
        codes = self.codes(scale, minimum).sub_(self._form.offset)
        weighted = codes * self._weight
        product = (weighted * self._groups).sum(-1, keepdim=True)
        square = (weighted * codes).sum(-1, keepdim=True)
        if not self._form.has_minimum:
            return _ratio(product, square), minimum
        mean = weighted.sum(-1, keepdim=True) / self._total
        variance = square - mean.square() * self._total
        slope = _ratio(product - mean * self._mean * self._total, variance)
        return slope, self._mean - slope * mean

    def codes(self, scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
        """Return the nearest codes as float32."""
        steps = (self._groups - minimum) * _ratio(torch.ones_like(scale), scale)
        return steps.round_().add_(self._form.offset).clamp_(0, (1 << self._form.bits) - 1)

    def offer(self, scale: torch.Tensor, minimum: torch.Tensor) -> None:
        """Keep the grids, as halves can hold them, that are better than those so far."""
        scale, minimum = (_as_half(part) for part in (scale, minimum))
        numbers = self.codes(scale, minimum).sub_(self._form.offset).mul_(scale).add_(minimum)
        error = (numbers.sub_(self._groups).square_() * self._weight).sum(-1, keepdim=True)
        better = error < self._error
        self.scale = torch.where(better, scale, self.scale)
        self.minimum = torch.where(better, minimum, self.minimum)
        self._error = torch.where(better, error, self._error)


def _ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """Return above / below, 0 where there is nothing to divide by."""
    return torch.where(below.abs() > 1e-30, above / below, torch.zeros_like(above))


def _as_half(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.clamp(-_LARGEST, _LARGEST).half().float()
