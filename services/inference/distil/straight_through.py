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

from dataclasses import dataclass

import numpy as np
import torch

from services.inference.models.group_codes import GroupFormat, Rows

COMPENSATION = 0.2
"""How much of a weight's gradient depends on its rounding error, at half a step."""
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
        scale, minimum = self._halves()
        steps = self._codes(scale, minimum).sub_(self.form.offset)
        return steps.mul_(scale).add_(minimum).view_as(self.latent)

    def rows(self) -> Rows:
        """Return codes, scales and minima as the file has them."""
        scale, minimum = self._halves()
        codes = self._codes(scale, minimum).view_as(self.latent).byte().cpu().numpy()
        minima = None if self.minimum is None else _half(minimum)
        return Rows(codes, _half(scale), minima)

    def gradients(self, given: torch.Tensor) -> Gradients:
        """Return the gradients for that of the rounded weights: [outputs, inputs]."""
        scale, minimum = self._halves()
        steps, gradient = self._steps(scale, minimum), given.reshape(self._grouped)
        codes = steps.round().clamp_(0, self._highest)
        error = steps - codes
        inside = (error.abs() <= 0.5).float()
        by_scale = (
            gradient * (codes - self.form.offset - inside * (steps - self.form.offset))
        ).sum(-1)
        by_minimum = None if self.minimum is None else (gradient * (1 - inside)).sum(-1)
        factor = error.mul_(gradient.sign()).mul_(2 * COMPENSATION).add_(1)
        latent = factor.mul_(gradient).mul_(inside)
        return Gradients(latent.view_as(self.latent), by_scale, by_minimum)

    @property
    def _grouped(self) -> tuple[int, int, int]:
        return (*self.scale.shape, self.form.group)

    @property
    def _highest(self) -> int:
        return (1 << self.form.bits) - 1

    def _halves(self) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.scale.half().float()
        scale = torch.where(scale.abs() < _LEAST_SCALE, _LEAST_SCALE, scale)[..., None]
        if self.minimum is None:
            return scale, torch.zeros_like(scale)
        return scale, self.minimum.half().float()[..., None]

    def _steps(self, scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
        """Return where weights lie on their grids, in codes: [outputs, groups, columns]."""
        return ((self.latent.view(self._grouped) - minimum) / scale).add_(self.form.offset)

    def _codes(self, scale: torch.Tensor, minimum: torch.Tensor) -> torch.Tensor:
        return self._steps(scale, minimum).round_().clamp_(0, self._highest)


def _half(numbers: torch.Tensor) -> np.ndarray:
    halves: np.ndarray = numbers.squeeze(-1).half().cpu().numpy()
    return halves
