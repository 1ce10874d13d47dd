"""What each way of storing each matrix should cost."""

from __future__ import annotations

import math

import torch

from services.inference.models.group_codes import GroupFormat
from services.inference.quantise.allocation import Choice
from services.inference.quantise.curvature import Curvature
from services.inference.quantise.rounding import rounded

FORMATS = tuple(
    [GroupFormat(bits, group, True) for bits in (2, 3, 4) for group in (32, 64, 192)]
    + [GroupFormat(bits, group, False) for bits in (3, 4, 5, 6) for group in (32, 64, 192)]
    + [GroupFormat(8, group, False) for group in (32, 64)]
)
"""What is tried. A minimum pays below five bits only, and has no blocks above four."""

_WIDTHS = (0.96, 0.8, 0.6)
"""Fewer than rounding tries: formats are compared, and all are as well off."""
_FEW_WEIGHTS = 1 << 19
"""Matrices of up to so many weights are tried whole."""


def choices(matrix: torch.Tensor, curvature: Curvature) -> list[Choice[GroupFormat]]:
    """Return the ways to store `matrix` ([outputs, inputs] float32)."""
    outputs, inputs = matrix.shape
    # Of a matrix n times as large every sqrt(n)-th row is tried.
    step = math.ceil(math.sqrt(matrix.numel() / _FEW_WEIGHTS))
    some = matrix[::step].contiguous()
    return [
        Choice(form, outputs * form.row_bytes(inputs), _cost(some, step, curvature, form))
        for form in FORMATS
        if form.problem(inputs) is None
    ]


def _cost(some: torch.Tensor, step: int, curvature: Curvature, form: GroupFormat) -> float:
    numbers = rounded(some, curvature.importance, form, _WIDTHS).weights(form)
    return curvature.cost(torch.from_numpy(numbers) - some, row_step=step)
