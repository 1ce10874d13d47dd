"""Steps of a fixed shape, captured once and launched as one.

A decode step of a small network is some hundred launches of a few microseconds
each; as a CUDA graph it is one. What a graph reads and writes has fixed
addresses, so a shape has `Inputs` of its own, filled by a single copy. On the
CPU, where kernels are interpreted, the same body is simply called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.inference.kernels.sparsity import Reading, Sparsity
from services.inference.kernels.triton.cache import PAGE
from services.inference.kernels.triton.choosing import Choice, pages_of, reading_of
from services.inference.kernels.triton.places import Places

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Sequences of a captured step; a batch takes the next larger one."""
_NARROWEST, _WIDEN = 32, 4
"""Pages of the narrowest table, and how much wider the next one is."""
_ALIGNED = 4
_NUMBERS = 5
"""Of each row: token, position, sequence, candidates, chosen."""


@dataclass(frozen=True)
class Shape:
    """Which graph: sequences, and pages of each table."""

    batch: int
    width: int
    listed: int = 0
    """Pages of the longest list where rows choose what they read; 0: none does."""
    dense_layers: int = 0
    """First layers, in which none does."""


def shape_of(sequences: int, pages: int, listed: int = 0, dense_layers: int = 0) -> Shape:
    """Return the smallest shape that holds so many; beyond 128 sequences, just that many."""
    batch = next((size for size in BATCHES if size >= sequences), sequences)
    return Shape(batch, _wide(pages), _wide(listed) if listed else 0, dense_layers)


def listed_of(rows: Sequence[Next]) -> tuple[int, int]:
    """Return the longest list of pages that rows read, and the layers in which none chooses.

    All rows choose, after the same layers, or none does: (0, 0).
    """
    sparsity = rows[0].sparsity
    if sparsity is None or not rows[0].reading.candidates:
        return 0, 0
    return max(pages_of(row.reading, row.position) for row in rows), sparsity.dense_layers


def _wide(pages: int) -> int:
    width = _NARROWEST
    while width < pages:
        width *= _WIDEN
    return width


@dataclass(frozen=True)
class Next:
    """One sequence that decodes: the token to compute, where, and its pages."""

    token_id: int
    position: int
    pages: Sequence[int]
    sparsity: Sparsity | None = None

    @property
    def reading(self) -> Reading:
        """What it reads."""
        return reading_of(self.sparsity, self.position)


class Inputs:
    """What a step of one shape reads, in one block of memory on the device."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        slots = -(-shape.batch // _ALIGNED) * _ALIGNED
        size = _NUMBERS * slots + shape.batch * shape.width
        self._host = torch.zeros(size, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._device = torch.zeros(size, dtype=torch.int32, device=device)
        self._copied = torch.cuda.Event() if device.type == "cuda" else None
        self.tokens, self.places, self.choice = self._views(self._device, slots)
        tokens, places, choice = self._views(self._host, slots)
        # The same memory as arrays, which take lists many times as fast.
        self._tokens, self._tables = tokens.numpy(), places.tables.numpy()
        self._positions, self._sequences = places.positions.numpy(), places.sequences.numpy()
        self._candidates, self._chosen = choice.candidates.numpy(), choice.chosen.numpy()

    def _views(self, block: torch.Tensor, slots: int) -> tuple[torch.Tensor, Places, Choice]:
        shape = self.shape
        parts = [block[slots * index : slots * index + shape.batch] for index in range(_NUMBERS)]
        tables = block[_NUMBERS * slots :].view(shape.batch, shape.width)
        choice = Choice(parts[3], parts[4], shape.listed, shape.dense_layers)
        return parts[0], Places(parts[1], parts[2], tables), choice

    def fill(self, rows: Sequence[Next]) -> None:
        """Set the rows of the next launch; the rest is padding."""
        if self._copied is not None:
            self._copied.synchronize()  # the last copy still reads the host's side
        count = len(rows)
        self._tokens[:count] = [row.token_id for row in rows]
        self._positions[:count] = [row.position for row in rows]
        self._sequences[:count], self._sequences[count:] = range(count), -1
        found = [row.reading for row in rows]
        self._candidates[:count] = [one.candidates for one in found]
        self._candidates[count:] = 0
        self._chosen[:count] = [one.chosen for one in found]
        for index, row in enumerate(rows):
            pages = row.pages[: row.position // PAGE + 1]
            self._tables[index, : len(pages)] = pages
        self._device.copy_(self._host, non_blocking=True)
        if self._copied is not None:
            self._copied.record()


class Graphs:
    """Bodies captured by shape; each returns the same tensor whenever it is launched."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._captured: dict[Any, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    def run(self, key: Any, body: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Launch `body`, captured at the first time; the result is overwritten by the next."""
        if self._device.type != "cuda":
            return body()
        if key not in self._captured:
            self._captured[key] = self._capture(body)
        graph, result = self._captured[key]
        graph.replay()
        return result

    def _capture(self, body: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, Any]:
        # Once before: kernels are compiled then, which a capture does not allow.
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            body()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = body()
        return graph, result
