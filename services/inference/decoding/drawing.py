"""Who draws: the sampler that defines the meaning, or the network in its stead."""

from __future__ import annotations

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


def draw(
    network: object,
    cache: Any,
    logits: Several[Any],
    rows: list[Row],
    ready: Several[Sequence],
) -> list[Drawn | None]:
    """Draw a token for each row from its vector of `logits`; they are those of `ready`.

    Where nobody is `ready`, no network may go on with the tokens.
    """
    if isinstance(network, SamplingNetwork):
        return network.sample(logits, rows)
    if not isinstance(network, DrawingNetwork):
        return sample(logits, rows)
    ends = [(sequence.computed_count, sequence.pages) for sequence in ready]
    return network.draw(logits, rows, ends, cache)
