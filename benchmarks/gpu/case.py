"""One comparison of a kernel with its reference, and the numbers that go into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

from services.inference.kernels.triton import reference

TOLERANCE = {"cpu": 2e-4, "cuda": 1.5e-2}
"""The device multiplies bfloat16, with 8 bits of precision; the interpreter float32."""

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Case:
    """One comparison: `run` gives the results of the reference or the fast paths."""

    name: str
    run: Callable[[ModuleType, str], Tensors]
    interpreted: float | None = None
    """What is allowed in the interpreter instead, which rounds to FP8 towards zero."""

    def deviation(self, fast: ModuleType, device: str) -> float:
        """Return the worst relative root mean square difference of the results."""
        expected = self.run(reference, device)
        actual = self.run(fast, device)
        return max(deviation(*pair) for pair in zip(actual, expected, strict=True))


def deviation(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square of the difference, relative to `expected`; inf for NaN."""
    difference = (actual.double() - expected.double()).square().mean()
    scale = expected.double().square().mean().clamp(min=1e-20)
    found = float((difference / scale).sqrt())
    return found if found == found else float("inf")  # noqa: PLR0124  # NaN


def generator(seed: int = 0) -> torch.Generator:
    """Return a source of numbers that are the same on every device."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return numbers like those in a network, made on the CPU."""
    return torch.randn(*shape, generator=generator(seed))
