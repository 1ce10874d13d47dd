"""The matrices of a file in the precisions of a plan, as blocks for the C++ kernels.

The same numbers that a GPU computes with by the same plan: groups of four bits are blocks
of Q4_0, of eight bits blocks of Q8_0, wider groups repeat their scale. FP8 and bfloat16
have no such blocks.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from services.inference.config import KernelsConfig
from services.inference.kernels import Blocks
from services.inference.kernels.cpu.packing import KINDS, Tensors
from services.inference.kernels.precision import Precision, PrecisionPlan, read
from services.inference.models.config import ModelConfig
from thermesh.errors import FailedPrecondition
from thermesh.settings import from_env

_BLOCKS = {"int4": "Q4_0", "int8": "Q8_0"}


class PlannedTensors:
    """The tensors of a GGUF file, each product's matrices as `plan` has them."""

    def __init__(self, source: Tensors, plan: PrecisionPlan) -> None:
        self._source = source
        self._plan = plan

    def kinds(self) -> Mapping[str, str]:
        """Return the format of each matrix."""
        return {name: self._kind(name, kind) for name, kind in self._source.kinds().items()}

    def matrix(self, name: str) -> Blocks:
        """Return a matrix, rounded where the plan says so."""
        stored, precision = self._source.matrix(name), self._plan.of(name)
        if precision.kind == "stored":
            return stored
        from services.inference.kernels.triton import matrix  # noqa: PLC0415  # imports torch

        numbers = matrix.dequantise(matrix.from_blocks([stored]))
        bits = int(precision.kind.removeprefix("int"))
        return matrix.as_blocks(matrix.quantise(numbers, bits, precision.group))

    def vector(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return a vector, None where the file lacks it."""
        return self._source.vector(name)

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """Return the rotary frequencies in radians per position: [head_size / 2]."""
        return self._source.inverse_frequencies()

    def _kind(self, name: str, stored: str) -> str:
        precision = self._plan.of(name)
        return stored if precision.kind == "stored" else _BLOCKS[precision.kind]


def as_planned(config: ModelConfig, source: Tensors) -> Tensors:
    """Return `source` by the environment's precision plan, if it names one.

    Raises like `precision.read` and `PrecisionPlan.check`, and FailedPrecondition for a
    precision that no block holds, or a file whose weights are none.
    """
    path = from_env(KernelsConfig).precision_plan
    if not path:
        return source
    plan = read(pathlib.Path(path))
    plan.check(config)
    for name, stored in source.kinds().items():
        _check(name, plan.of(name), stored)
    return PlannedTensors(source, plan)


def _check(name: str, precision: Precision, stored: str) -> None:
    if precision.kind == "stored":
        return
    if precision.kind not in _BLOCKS:
        allowed = f"on a CPU stored, {' and '.join(_BLOCKS)} can be served"
        raise FailedPrecondition(f"THERMESH_PRECISION_PLAN: {name} is {precision.kind}; {allowed}")
    if stored not in KINDS:
        known = ", ".join(KINDS)
        raise FailedPrecondition(f"THERMESH_PRECISION_PLAN: {name} is {stored}, not {known}")
