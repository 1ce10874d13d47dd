"""Every kernel against its reference, on the device or in Triton's interpreter.

The same cases run in CI, where they are small enough for the interpreter, and
in `make gpu-check`. A case gives numbers of both; they agree when the root mean
square of their difference is small against that of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from services.inference.kernels.triton import reference
from services.inference.kernels.triton.cache import PAGE, DeviceCache
from services.inference.kernels.triton.drawing import launch
from services.inference.kernels.triton.matrix import Matrix, quantise, quantise_fp8
from services.inference.kernels.triton.places import QUERIES, Heads, Places, Tiles
from services.inference.sampler import Row, sample
from services.inference.sampling import Dynatemp, Edt, Fixed, Guard, Residual, Sampling

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


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from product_cases()
    yield from eight_bit_cases()
    yield from rope_cases()
    yield from attention_cases()
    yield from selection_cases()
    yield from drawing_cases()


def generator(seed: int = 0) -> torch.Generator:
    """Return a source of numbers that are the same on every device."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return numbers like those in a network, made on the CPU."""
    return torch.randn(*shape, generator=generator(seed))


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


@dataclass(frozen=True)
class World:
    """A filled cache with sequences on it, in no order of pages."""

    cache: DeviceCache
    tables: torch.Tensor
    kv_heads: int
    size: int
    device: str

    def places(self, positions: list[int], sequences: list[int]) -> Places:
        """Return rows at `positions` of `sequences`."""
        both = (torch.tensor(part, dtype=torch.int32) for part in (positions, sequences))
        moved = [part.to(self.device) for part in both]
        return Places(moved[0], moved[1], self.tables)


def world(device: str, dtype: torch.dtype, pages_each: int = 6, sequences: int = 3) -> World:
    """Return a cache of one layer, 2 key-value heads of 32, full of random vectors."""
    kv_heads, size, total = 2, 32, pages_each * sequences
    cache = DeviceCache(1, total, kv_heads, size, dtype, device)
    layer = cache.layers[0]
    for seed, (vectors, scales) in enumerate(
        ((layer.keys, layer.key_scales), (layer.values, layer.value_scales))
    ):
        numbers = normal(total, kv_heads, PAGE, size, seed=seed + 10)
        if dtype == torch.int8:
            scale = numbers.abs().amax(-1) / 127
            scales.copy_(scale)
            numbers = (numbers / scale[..., None]).round()
        vectors.copy_(numbers.to(dtype))
    order = torch.randperm(total, generator=generator(12)).view(sequences, pages_each)
    return World(cache, order.int().to(device), kv_heads, size, device)


def kv_types(device: str) -> tuple[torch.dtype, ...]:
    """Return what a cache may hold; the interpreter cannot compute with bfloat16."""
    return (torch.float16 if device == "cpu" else torch.bfloat16, torch.int8)


def rope_cases() -> Iterator[Case]:
    """Yield rotation and the write to both kinds of cache."""
    for index in range(2):
        for has_norms in (False, True):
            name = f"rotate and store: {('16 bits', 'int8')[index]}, head norms {has_norms}"
            yield Case(name, _rotate(index, has_norms=has_norms))


def _rotate(index: int, *, has_norms: bool) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        found = world(device, kv_types(device)[index])
        places = found.places([0, 17, 95, 40], [0, 1, 2, -1])
        frequencies = 10_000.0 ** (-torch.arange(16) / 16)
        norms = [normal(32, seed=seed).abs().to(device) if has_norms else None for seed in (7, 8)]
        heads = Heads(4, 2, 32, frequencies.to(device), norms[0], norms[1], 1e-5)
        layer = found.cache.layers[0]
        joined = normal(4, 8 * 32, seed=9).to(device)
        queries = operations.rotate_and_store(joined, layer, places, heads)
        stored = [reference._numbers(layer.keys, layer.key_scales)]  # noqa: SLF001
        stored.append(reference._numbers(layer.values, layer.value_scales))  # noqa: SLF001
        return queries, *stored

    return run


def attention_cases() -> Iterator[Case]:
    """Yield decoding and prompts, dense and sparse, on both kinds of cache."""
    for index, cached in enumerate(("16 bits", "int8")):
        for is_sparse in (False, True):
            kind = f"{'sparse' if is_sparse else 'dense'}, {cached}"
            yield Case(f"decode: {kind}", _decode(index, is_sparse=is_sparse))
            yield Case(f"prefill: {kind}", _prefill(index, is_sparse=is_sparse))
    yield Case("decode: long, merged", _decode(0, pages=70))
    yield Case("decode: long, sparse, merged", _decode(0, pages=70, is_sparse=True))


def _decode(
    index: int, *, pages: int = 6, is_sparse: bool = False
) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        found = world(device, kv_types(device)[index], pages)
        most = pages * PAGE
        places = found.places([0, most - 1, most // 2 + 3, 9], [0, 1, 2, -1])
        queries = normal(4, 6, 32, seed=20).to(device)
        selected = None
        if is_sparse:
            kept = torch.arange(0, pages, 2 if pages < 20 else 1)[: max(pages // 2, 36)]
            padded = torch.cat((kept, torch.tensor([-1]))).int()
            # Row 0 has its first page only; what is beyond a sequence is never listed.
            selected = padded.expand(4, 2, -1).clone()
            counts = places.positions.cpu() // PAGE
            selected[selected > counts[:, None, None]] = -1
            selected = selected.to(device)
        return (operations.attend(queries, found.cache.layers[0], places, selected)[:3],)

    return run


def _prefill(index: int, *, is_sparse: bool) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        found = world(device, kv_types(device)[index], 8)
        positions = [*range(QUERIES), *range(60, 80), *range(100, 128)]
        counts = (QUERIES, 20, 28)
        sequences = [row for row, count in enumerate(counts) for _ in range(count)]
        places = found.places(positions, sequences)
        bounds = [torch.tensor(part, dtype=torch.int32) for part in ((0, 64, 84), counts)]
        tiles = Tiles(*(part.to(device) for part in bounds))
        queries = normal(len(positions), 4, 32, seed=21).to(device)
        selected = None
        if is_sparse:
            chosen = torch.tensor([[[0, -1]] * 2, [[1, 0]] * 2, [[1, -1], [0, 1]]])
            selected = chosen.int().to(device)
        return (operations.attend_tiles(queries, found.cache.layers[0], places, tiles, selected),)

    return run


def selection_cases() -> Iterator[Case]:
    """Yield bounds, scores and the choice."""
    for index, cached in enumerate(("16 bits", "int8")):
        yield Case(f"page bounds: {cached}", _bounds(index))
        yield Case(f"page scores and choice: {cached}", _scores(index))


def _bounds(index: int) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        layer = world(device, kv_types(device)[index]).cache.layers[0]
        return tuple(operations.page_bounds(layer))

    return run


def _scores(index: int) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        found = world(device, kv_types(device)[index], 20)
        lower, upper = reference.page_bounds(found.cache.layers[0])
        counts = torch.tensor([20, 3, 11], dtype=torch.int32).to(device)
        queries = normal(3, 4, 32, seed=22).to(device)
        scores = operations.page_scores(queries, lower, upper, found.tables, counts)
        kept = operations.chosen(scores, counts, 6, 2)
        return scores.clamp(min=-1e6), kept

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
