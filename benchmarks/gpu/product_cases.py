"""Products with every kind of matrix, rows in eight bits, and draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from benchmarks.gpu.case import Case, Tensors, normal
from services.inference.kernels.triton import reference
from services.inference.kernels.triton.drawing import launch
from services.inference.kernels.triton.matrix import Matrix, quantise, quantise_fp8
from services.inference.sampling.sampler import Row, sample
from services.inference.sampling.settings import Dynatemp, Edt, Fixed, Guard, Residual, Sampling


def matrices() -> dict[str, Matrix]:
    """Return one matrix of each kind, 96 x 256, with the group sizes."""
    weights = normal(96, 256) / 8
    four = quantise(weights, 4, 32)
    least = (normal(96, 8, seed=1) / 10).half()
    return {
        "q4 of 32": four,
        "q4 of 64": quantise(weights, 4, 64),
        "q4 of 128": quantise(weights, 4, 128),
        "q4 with minimums": Matrix("q4", four.codes, four.scales, least),
        "q8 of 32": quantise(weights, 8, 32),
        "q8 by rows": quantise(weights, 8, 256),
        "fp8 by rows": quantise_fp8(weights),
        "dense": Matrix("dense", weights),
    }


def product_cases() -> Iterator[Case]:
    """Yield products of each kind of matrix, for one row and for several."""
    variants = {
        "plain": (),
        "normed": ("norm",),
        "biased, added": ("bias", "residual"),
        "normed, gated": ("norm", "gated"),
    }
    for kind, matrix in matrices().items():
        for variant, parts in variants.items():
            for rows in (1, 3):
                name = f"linear: {kind}, {variant}, {rows} rows"
                yield Case(name, _product(matrix, rows, parts))
    yield Case("linear: inputs cut in parts, 1 row", _product(wide(), 1, ("residual",)))
    yield Case("linear: inputs cut in parts, 5 rows", _product(wide(), 5, ("residual",)))
    yield Case("linear: 90 rows", _product(matrices()["q4 of 32"], 90, ("norm",)))


def wide() -> Matrix:
    """Return a matrix with few outputs and many inputs, whose products are split."""
    return quantise(normal(16, 4096) / 8, 4, 128)


def _product(
    matrix: Matrix, rows: int, parts: tuple[str, ...]
) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        is_gated = "gated" in parts
        outputs = matrix.outputs // (2 if is_gated else 1)
        given = {
            "norm": normal(matrix.inputs, seed=3).abs().to(device),
            "bias": normal(outputs, seed=4).to(device),
            "residual": normal(rows, outputs, seed=5).to(device),
        }
        options: dict[str, Any] = {key: value for key, value in given.items() if key in parts}
        hidden = normal(rows, matrix.inputs, seed=6).to(device)
        return (
            operations.linear(
                hidden, matrix.to(device), epsilon=1e-5, is_gated=is_gated, **options
            ),
        )

    return run


def eight_bit_cases() -> Iterator[Case]:
    """Yield rows quantised with their norm, and products of them."""
    by_rows = {torch.int8: "q8 by rows", torch.float8_e4m3fn: "fp8 by rows"}
    for dtype, kind in by_rows.items():
        is_fp8 = dtype == torch.float8_e4m3fn
        yield Case(f"normed codes: {dtype}", _codes(dtype), 0.08 if is_fp8 else None)
        yield Case(f"scaled product: {dtype}", _scaled(dtype, matrices()[kind]))


def _codes(dtype: torch.dtype) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        hidden, norm = normal(5, 192), normal(192, seed=1).abs()
        codes, scales = operations.normed_codes(hidden.to(device), dtype, norm.to(device), 1e-5)
        # One code may fall to the other side of a half: the numbers still agree.
        return codes.float() * scales[:, None], scales

    return run


def _scaled(dtype: torch.dtype, matrix: Matrix) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        codes, scales = reference.normed_codes(normal(32, 256).to(device), dtype)
        return (operations.scaled_linear(codes, scales, matrix.to(device)),)

    return run


PROGRAMS = {
    "greedy": Fixed(0.0),
    "EDT": Edt(1.1, 0.5),
    "dynatemp": Dynatemp(0.9, 0.6, 1.3),
    "residual": Residual(0.8, 0.3, 1.5, 0.4),
}
GUARDS = {"top n sigma": Guard(top_n_sigma=1.0), "top k, top p": Guard(top_k=40, top_p=0.9)}


def drawing_cases() -> Iterator[Case]:
    """Yield draws; their reference is the sampler on the host."""
    for name, program in PROGRAMS.items():
        for cut, guard in GUARDS.items():
            yield Case(f"draw: {name}, {cut}", _draws(Sampling(program, guard)))


def _draws(sampling: Sampling) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        logits = normal(2, 600, seed=3) * torch.tensor([[1.0], [6.0]])
        rows = [Row(sampling, seed=5, token_index=index) for index in range(2)]
        if operations is reference:
            drawn = sample(logits, rows)
        else:
            drawn = launch(operations.sample, logits.to(device), rows).read()
        found = [(one.token_id, one.temperature, one.entropy) for one in drawn if one is not None]
        return tuple(torch.tensor(column) for column in zip(*found, strict=True))

    return run
