"""Who draws: the sampler on the host, or the network where its logits are."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any, Protocol, runtime_checkable

import torch

from services.inference.sampler import Drawn, Row, sample
from services.inference.sequence import Sequence


@runtime_checkable
class DrawingNetwork(Protocol):
    """A network on a device, which draws there and goes on with the tokens at once."""

    def draw(
        self,
        logits: torch.Tensor,
        rows: Several[Row],
        ends: Several[tuple[int, Several[int]]],
        cache: Any,
    ) -> list[Drawn | None]:
        """Draw as `sample` does; `ends` are each token's position and its sequence's pages."""
        ...


def draw(
    network: object, cache: Any, logits: torch.Tensor, rows: list[Row], ready: Several[Sequence]
) -> list[Drawn | None]:
    """Draw a token for each row of `logits`, which are those of `ready`.

    Where nobody is `ready`, no network may go on with the tokens.
    """
    if not isinstance(network, DrawingNetwork):
        return sample(logits, rows)
    ends = [(sequence.computed_count, sequence.pages) for sequence in ready]
    return network.draw(logits, rows, ends, cache)
