"""Who draws: the sampler that defines the meaning, or the network in its stead."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Any, Protocol, runtime_checkable

from services.inference.sampling.sampler import Drawn, Row, sample
from services.inference.sequences.sequence import Sequence


@runtime_checkable
class DrawingNetwork(Protocol):
    """A network on a device, which draws there and goes on with the tokens at once."""

    def draw(
        self,
        logits: Several[Any],
        rows: Several[Row],
        ends: Several[tuple[int, Several[int]]],
        cache: Any,
    ) -> list[Drawn | None]:
        """Draw as `sample` does; `ends` are each token's position and its sequence's pages."""
        ...


@runtime_checkable
class SamplingNetwork(Protocol):
    """A network whose kernels draw faster than the sampler."""

    def sample(self, logits: Several[Any], rows: Several[Row]) -> list[Drawn | None]:
        """Draw as `sampler.sample` does, from a vector of logits for each row."""
        ...


Drawer = Callable[[Any, Several[Any], Several[Row], Several[Sequence]], list[Drawn | None]]
"""Draws a token for each row: takes the cache, a vector of logits for each row, the rows,
and the sequences whose they are. Where these are none, no network may go on with the tokens."""


def drawer_of(network: object) -> Drawer:
    """Return who draws for `network`. Ask once: it takes as long as to draw."""
    if isinstance(network, SamplingNetwork):
        sampling = network
        return lambda _cache, logits, rows, _ready: sampling.sample(logits, rows)
    if not isinstance(network, DrawingNetwork):
        return lambda _cache, logits, rows, _ready: sample(logits, rows)
    drawing = network

    def draw(
        cache: Any, logits: Several[Any], rows: Several[Row], ready: Several[Sequence]
    ) -> list[Drawn | None]:
        ends = [(sequence.computed_count, sequence.pages) for sequence in ready]
        return drawing.draw(logits, rows, ends, cache)

    return draw
