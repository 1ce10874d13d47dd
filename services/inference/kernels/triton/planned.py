"""The weights of a network as a precision plan says: each product's own kind of matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from services.inference.kernels.cpu.packing import Tensors, Unsuitable
from services.inference.kernels.precision import Precision, PrecisionPlan
from services.inference.kernels.triton.matrix import (
    KINDS,
    Matrix,
    dequantise,
    from_blocks,
    joined,
    quantise,
    quantise_fp8,
)
from services.inference.kernels.triton.weights import (
    DeviceWeights,
    Pieces,
    Share,
    built,
    check,
    vector_of,
)
from thermesh.errors import InvalidArgument

if TYPE_CHECKING:
    from services.inference.models.config import ModelConfig
    from services.inference.models.weights import Weights


def rounded(numbers: torch.Tensor, precision: Precision, dtype: torch.dtype) -> Matrix:
    """Return [outputs, inputs] float32 in a precision that is not `stored`."""
    match precision.kind:
        case "fp8":
            return quantise_fp8(numbers)
        case "bf16":
            return Matrix("dense", numbers.to(dtype).contiguous())
    return quantise(numbers, int(precision.kind.removeprefix("int")), precision.group)


def from_plan(
    config: ModelConfig,
    source: Tensors | Weights,
    plan: PrecisionPlan,
    device: torch.device,
    share: Share,
    dtype: torch.dtype = torch.bfloat16,
) -> DeviceWeights:
    """Return the weights of `source` in the precisions of `plan`.

    Raises InvalidArgument for a plan that is not one for this network, and Unsuitable
    where the kernels cannot run the network at all.
    """
    check(config, share)
    plan.check(config)
    pieces = (
        _of_tensors(cast("Tensors", source), plan, dtype)
        if hasattr(source, "kinds")
        else _of_weights(config, source, plan, dtype)
    )
    return built(config, pieces, _frequencies(source), device, share)


def _of_tensors(tensors: Tensors, plan: PrecisionPlan, dtype: torch.dtype) -> Pieces:
    unknown = sorted(set(tensors.kinds().values()) - set(KINDS))
    if unknown:
        raise Unsuitable(f"weights are stored as {unknown[0]}; {', '.join(KINDS)} can be packed")

    def matrix(*names: str) -> Matrix:
        stored, precision = from_blocks([tensors.matrix(name) for name in names]), plan.of(names[0])
        if precision.kind == "stored":
            return stored
        return rounded(dequantise(stored), precision, dtype)

    return Pieces(matrix, lambda name: vector_of(tensors.vector(name)))


def _of_weights(
    config: ModelConfig, weights: Weights, plan: PrecisionPlan, dtype: torch.dtype
) -> Pieces:
    views = weights.destinations(config)

    def matrix(*names: str) -> Matrix:
        precision = plan.of(names[0])
        if precision.kind == "stored":
            problem = "stored: this model's weights are not quantised; plan another precision"
            raise InvalidArgument(f"{names[0]}: {problem}", field="precision_plan")
        return joined([rounded(views[name], precision, dtype) for name in names])

    return Pieces(matrix, views.get)


def _frequencies(source: Tensors | Weights) -> torch.Tensor:
    if hasattr(source, "kinds"):
        return torch.from_numpy(cast("Tensors", source).inverse_frequencies())
    return source.inverse_frequencies
