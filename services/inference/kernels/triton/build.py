"""A network on one GPU or on several, from a file's tensors or from float32 weights."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, cast

import torch

from services.inference.kernels.cpu.packing import Tensors
from services.inference.kernels.precision import read
from services.inference.kernels.triton import operations
from services.inference.kernels.triton.device import status
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.parallel import Leader, add_up, join
from services.inference.kernels.triton.planned import from_plan
from services.inference.kernels.triton.weights import from_tensors, from_weights

if TYPE_CHECKING:
    from services.inference.config import KernelsConfig
    from services.inference.models.config import ModelConfig
    from services.inference.models.weights import Weights


def network(
    config: ModelConfig, source: Tensors | Weights, wanted: KernelsConfig
) -> GpuNetwork | Leader:
    """Return the network of `source`. Raises Unsuitable where the kernels cannot run it."""
    found = status()
    share = join(found.device)
    index = torch.cuda.current_device() if found.device == "cuda" else None
    device = torch.device(found.device, index) if index is not None else torch.device("cpu")
    half = torch.bfloat16 if found.device == "cuda" else torch.float16
    kv_dtype = torch.int8 if wanted.kv_cache == "int8" else half
    if wanted.precision_plan:
        plan = read(pathlib.Path(wanted.precision_plan))
        dtype = torch.bfloat16 if found.device == "cuda" else torch.float32
        weights = from_plan(config, source, plan, device, share, dtype)
    elif hasattr(source, "kinds"):
        weights = from_tensors(config, cast("Tensors", source), device, share)
    else:
        dtype = torch.bfloat16 if found.device == "cuda" else torch.float32
        weights = from_weights(config, source, device, share, dtype)
    if share.world == 1:
        return GpuNetwork(config, weights, operations, device, kv_dtype=kv_dtype)
    part = GpuNetwork(
        config, weights, operations, device, kv_dtype=kv_dtype, share=share, add_up=add_up
    )
    return Leader(part) if share.rank == 0 else part
