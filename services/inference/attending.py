"""What the queries of one sequence read of its context, as its compute path says.

A plan may come while the prompt is computed. Its path holds from the first
token that is not computed yet, and for good: a sequence that is preempted is
computed again as it was before, token for token.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from services.inference.kernels import Sparsity
from services.inference.request import ComputePath


@dataclass
class Attending:
    """What one sequence reads; `sparsity` None is everything."""

    sparsity: Sparsity | None = None

    def follow(self, path: ComputePath, light: Sparsity | None, computed_count: int) -> None:
        """Take a plan's path; `light` is what the network offers for LIGHT, if anything."""
        if path is ComputePath.LIGHT and light is not None and self.sparsity is None:
            self.sparsity = dataclasses.replace(light, first_position=computed_count)

    def sharable(self, count: int) -> int:
        """Return how many of the first `count` tokens any sequence would compute alike.

        Those behind were computed by queries that chose what they read.
        """
        return count if self.sparsity is None else min(count, self.sparsity.sparse_from)
