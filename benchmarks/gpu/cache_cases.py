"""What reads or writes a paged cache: rotation, attention, the choice of pages, gates."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import torch

from benchmarks.gpu.case import Case, Tensors, generator, normal
from services.inference.kernels import gates
from services.inference.kernels.triton import reference
from services.inference.kernels.triton.cache import PAGE, DeviceCache
from services.inference.kernels.triton.places import QUERIES, Heads, Places, Tiles


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
    """Yield means, bounds, scores and the choice."""
    for index, cached in enumerate(("16 bits", "int8")):
        yield Case(f"means of pages and their scores: {cached}", _means(index))
        yield Case(f"page bounds: {cached}", _bounds(index))
        yield Case(f"page scores and choice: {cached}", _scores(index))


def _means(index: int) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        found = world(device, kv_types(device)[index], 20)
        cache, tables = found.cache, torch.cat((found.tables, found.tables[:1]))
        ends = torch.arange(PAGE - 1, 20 * PAGE, PAGE, dtype=torch.int32)
        rows = [*((int(end), row) for row in range(3) for end in ends), (30, 1), (31, -1)]
        positions, sequences = (
            torch.tensor(part, dtype=torch.int32).to(device) for part in zip(*rows, strict=True)
        )
        operations.summarise(cache.all_layers, Places(positions, sequences, tables))
        places = found.places([319, 40, 200, 9], [0, 1, 2, -1])
        candidates = torch.tensor([16, 0, 9, 0], dtype=torch.int32).to(device)
        queries = normal(4, 4, 32, seed=23).to(device)
        layer = cache.layers[0]
        scores = operations.mean_scores(queries, layer, places, candidates)[:3].clamp(min=-1e6)
        # Codes lie at the edge of two numbers here and there: what they stand for is compared.
        stored = layer.means.float() * layer.mean_scales[:, None, :, None]
        return torch.where(scores > -1e6, scores, 0.0), stored

    return run


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


def gate_cases() -> Iterator[Case]:
    """Yield the scores of learned gates; their reference is the oracle on the CPU."""
    for index, cached in enumerate(("16 bits", "int8")):
        yield Case(f"gates: {cached}", _gated(index))


def _gated(index: int) -> Callable[[ModuleType, str], Tensors]:
    def run(operations: ModuleType, device: str) -> Tensors:
        found = world(device, kv_types(device)[index], 20)
        layer, table = found.cache.layers[0], found.tables[:1]
        taught = gates.Gates(normal(1, 2, 32, 32, seed=30), normal(1, 2, 32, seed=31).abs())
        aims = [part.to(device) for part in gates.aimed(taught, 0, normal(1, 4, 32, seed=32))]
        if operations is not reference:
            fast = importlib.import_module("services.inference.kernels.triton.gating")
            scores: torch.Tensor = fast.gated_scores(*aims, *fast.summaries(layer), table)
            return (scores,)
        keys = reference._numbers(layer.keys, layer.key_scales)[table[0].long()]  # noqa: SLF001
        summary = gates.summarised(keys.transpose(1, 2).flatten(0, 1))
        return (gates.gated_scores(*aims, summary),)

    return run
