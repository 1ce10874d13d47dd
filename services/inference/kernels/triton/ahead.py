"""A step that was launched before anybody asked for it, with the tokens just drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from services.inference.kernels.triton.cache import PAGE
from services.inference.kernels.triton.graphs import Next
from services.inference.sampling.sampler import Drawn


class Ahead:
    """Keeps the logits of the newest such step until they are asked for, or others are.

    What a sequence computes is told by its last page, which it shares with
    nobody, the position and the token.
    """

    def __init__(self) -> None:
        self._logits: torch.Tensor | None = None
        self._rows: dict[tuple[int, int, int], int] = {}
        self.used_count = 0

    def keep(
        self, launched: Sequence[Next], drawn: Sequence[Drawn | None], logits: torch.Tensor
    ) -> None:
        """Keep `logits` of `launched`, whose tokens turned out as `drawn`."""
        self._logits = logits
        self._rows = {
            _key(replace(row, token_id=token.token_id)): index
            for index, (row, token) in enumerate(zip(launched, drawn, strict=True))
            if token is not None
        }

    def take(self, rows: Sequence[Next]) -> torch.Tensor | None:
        """Return [rows, vocabulary] if all of `rows` were computed; forget what was kept."""
        logits, self._logits = self._logits, None
        found = [self._rows.get(_key(row)) for row in rows]
        places = [place for place in found if place is not None]
        if logits is None or len(places) < len(rows):
            return None
        self.used_count += 1
        if places == list(range(len(logits))):
            return logits
        return logits[torch.tensor(places, device=logits.device)]


def _key(row: Next) -> tuple[int, int, int]:
    return row.pages[row.position // PAGE], row.position, row.token_id
