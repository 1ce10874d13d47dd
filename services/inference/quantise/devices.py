"""Precision plans for devices: the allocator's choice among what their kernels multiply.

Queries and keys decide what is read at all, so their product stays at eight bits or
more unless the file's own numbers are fewer, which cost nothing more. Feed-forward
products may have four bits. Everything else has eight. Costs are those of
`curvature`; rounding is the one that the device's loader does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from services.inference.kernels.precision import PRODUCTS, Precision, PrecisionPlan
from services.inference.kernels.triton.matrix import KINDS, dequantise, from_blocks
from services.inference.kernels.triton.planned import rounded
from services.inference.quantise import allocation
from services.inference.quantise.allocation import Choice
from services.inference.quantise.curvature import Curvature
from services.inference.quantise.source import Source
from thermesh.errors import InvalidArgument

_HIGH = ("stored", "bf16", "int8/32", "int8/64")
_LOW = (*_HIGH, "fp8", "int4/32", "int4/64", "int4/128")
ALLOWED = {
    "query_key_value": _HIGH,
    "attention_output": (*_HIGH, "fp8"),
    "gate_up": _LOW,
    "down": _LOW,
    "embedding": (*_HIGH, "fp8"),
    "head": (*_HIGH, "fp8"),
}
"""What each product may be."""

Choices = dict[str, list[Choice[Precision]]]


def choices(
    source: Source,
    curvature: dict[str, Curvature],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Choices:
    """Return what each product could be, by names like `blk.0.down` and `embedding`."""
    products = _products(source)
    found: Choices = {}
    for name, matrices in products.items():
        allowed = [Precision.parsed(text, name) for text in ALLOWED[name.rpartition(".")[2]]]
        options = [_choice(source, curvature, matrices, precision) for precision in allowed]
        found[name] = [option for option in options if option is not None]
        progress(len(found), len(products))
    return found


def plan(source: Source, found: Choices, budget_bytes: int) -> PrecisionPlan:
    """Return the plan of the least expected divergence within the budget."""
    chosen = allocation.allocated(found, budget_bytes)
    if chosen is None:
        raise InvalidArgument(f"nothing fits {budget_bytes} bytes", field="bits")
    layers = tuple(
        {product: chosen[f"blk.{index}.{product}"] for product in PRODUCTS}
        for index in range(source.config.layers)
    )
    return PrecisionPlan(
        chosen["embedding"],
        layers,
        chosen.get("head"),
        allocation.byte_count(found, chosen),
        allocation.cost(found, chosen),
    )


def _products(source: Source) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {"embedding": ("token_embd.weight",)}
    if not source.config.tied_embeddings:
        found["head"] = ("output.weight",)
    for index in range(source.config.layers):
        for product, parts in PRODUCTS.items():
            found[f"blk.{index}.{product}"] = tuple(f"blk.{index}.{one}.weight" for one in parts)
    return found


def _choice(
    source: Source,
    curvature: dict[str, Curvature],
    names: tuple[str, ...],
    precision: Precision,
) -> Choice[Precision] | None:
    if not precision.fits(source.matrices[names[0]][1]):
        return None
    if precision.kind == "stored":
        blocks = [source.blocks(name) for name in names]
        if not {block.kind for block in blocks} <= set(KINDS):
            return None
        return Choice(precision, from_blocks(blocks).byte_count, 0.0)
    byte_count, cost = 0, 0.0
    for name in names:
        original = source.matrix(name)
        matrix = rounded(original, precision, torch.bfloat16)
        byte_count += matrix.byte_count
        cost += curvature[name].cost(dequantise(matrix) - original)
    return Choice(precision, byte_count, cost)
