"""Rounding that can be trained through: the numbers of the file, and gradients past them.

Forward, a latent weight becomes exactly what `group_codes` would store. Backward,
rounding has no slope, so the gradient passes as if it were not there (straight-through:
Bengio et al., 2013, https://arxiv.org/abs/1308.3432), with two compensations for what
that leaves out:

- a weight's gradient grows where following it brings the weight back to the number it
  was rounded to, and shrinks where it leads away (element-wise gradient scaling: Lee
  et al., 2021, https://arxiv.org/abs/2104.00903);
- a scale's gradient has the rounding error in it (learned step size: Esser et al., 2020,
  https://arxiv.org/abs/1902.08153), and weights beyond the grid pull at scale and minimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from services.inference.models.group_codes import GroupFormat, Rows

COMPENSATION = 0.2
"""How much of a weight's gradient depends on its rounding error, at half a step."""
_PIECE_WEIGHTS = 1 << 16
"""Weights that a dozen elementwise steps follow one another on: 256 KB of float32."""
_LEAST_SCALE = 6e-8
"""The smallest half that is not 0."""


@dataclass(frozen=True)
class Gradients:
    """Of one matrix's latent weights, scales and minima."""

    latent: torch.Tensor
    scale: torch.Tensor
    minimum: torch.Tensor | None


class Matrix:
    """A matrix in training: `latent` [outputs, inputs], the others [outputs, groups], float32."""

    def __init__(self, latent: torch.Tensor, rows: Rows, form: GroupFormat) -> None:
        device = latent.device
        self.form = form
        self.latent = latent
        self.scale = torch.from_numpy(rows.scales.astype(np.float32)).to(device)
        self.minimum = None
        if rows.minima is not None:
            self.minimum = torch.from_numpy(rows.minima.astype(np.float32)).to(device)

    @property
    def parameters(self) -> list[torch.Tensor]:
        """What is trained, in a fixed order."""
        found = [self.latent, self.scale]
        return found if self.minimum is None else [*found, self.minimum]

    def rounded(self) -> torch.Tensor:
        """Return the weights as they would be stored: [outputs, inputs]."""
        found = torch.empty_like(self.latent)
        for piece in self._pieces():
            found[piece] = self._rounded(piece)
        return found

    def _rounded(self, piece: slice) -> torch.Tensor:
        scale, minimum = self._halves(piece)
        steps = self._codes(piece, scale, minimum).sub_(self.form.offset)
        return steps.mul_(scale).add_(minimum).flatten(1)

    def rows(self) -> Rows:
        """Return codes, scales and minima as the file has them."""
        whole = slice(None)
        scale, minimum = self._halves(whole)
        codes = self._codes(whole, scale, minimum).flatten(1).byte().cpu().numpy()
        minima = None if self.minimum is None else _half(minimum)
        return Rows(codes, _half(scale), minima)

    def gradients(self, given: torch.Tensor) -> Gradients:
        """Return the gradients for that of the rounded weights: [outputs, inputs]."""
        minimum = None if self.minimum is None else torch.empty_like(self.minimum)
        found = Gradients(torch.empty_like(self.latent), torch.empty_like(self.scale), minimum)
        for piece in self._pieces():
            self._gradients(piece, given[piece], found)
        return found

    def _gradients(self, piece: slice, given: torch.Tensor, found: Gradients) -> None:
        scale, minimum = self._halves(piece)
        steps = self._steps(piece, scale, minimum)
        gradient = given.contiguous().view_as(steps)
        codes = steps.round().clamp_(0, self._highest)
        error = steps - codes
        inside = (error.abs() <= 0.5).float()
        by_scale = codes.sub_(self.form.offset).addcmul_(
            inside, steps.sub_(self.form.offset), value=-1
        )
        found.scale[piece] = by_scale.mul_(gradient).sum(-1)
        if found.minimum is not None:
            found.minimum[piece] = (gradient * (1 - inside)).sum(-1)
        factor = error.mul_(gradient.sign()).mul_(2 * COMPENSATION).add_(1)
        found.latent[piece] = factor.mul_(gradient).mul_(inside).flatten(1)

    def _pieces(self) -> Iterator[slice]:
        """Yield rows to work on at once: what a core's cache holds, all of them on a GPU."""
        rows, columns = self.latent.shape
        step = rows if self.latent.is_cuda else max(1, _PIECE_WEIGHTS // columns)
        for first in range(0, rows, step):
            yield slice(first, first + step)

    @property
    def _highest(self) -> int:
        return (1 << self.form.bits) - 1

    def _halves(self, piece: slice) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.scale[piece].half().float()
        scale = torch.where(scale.abs() < _LEAST_SCALE, _LEAST_SCALE, scale)[..., None]
        if self.minimum is None:
            return scale, torch.zeros_like(scale)
        return scale, self.minimum[piece].half().float()[..., None]

    def _steps(self, piece: slice, scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
        """Return where weights lie on their grids, in codes: [outputs, groups, columns]."""
        grouped = self.latent[piece].view(*scale.shape[:2], self.form.group)
        return grouped.sub(minimum).div_(scale).add_(self.form.offset)

    def _codes(self, piece: slice, scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
        return self._steps(piece, scale, minimum).round_().clamp_(0, self._highest)


def _half(numbers: torch.Tensor) -> np.ndarray:
    halves: np.ndarray = numbers.squeeze(-1).half().cpu().numpy()
    return halves
