"""What the tokens of one sequence are computed with, as its compute path says.

A light path may read less of the context (`sparsity`), and run through less of
each layer where the model has such a path (`models.nested`). A plan may come while
the prompt is computed. Its path holds from the first token that is not computed yet,
and for good: a sequence that is preempted is computed again as it was before, token
for token.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from services.inference.kernels import Sparsity
from services.inference.request import ComputePath


@dataclass
class Attending:
    """What one sequence reads and runs through; `sparsity` None is everything."""

    sparsity: Sparsity | None = None
    light_from: int | None = None
    """The first token that the light network computes; None: there is none."""

    def follow(
        self,
        path: ComputePath,
        light: Sparsity | None,
        computed_count: int,
        *,
        has_light_network: bool = False,
    ) -> None:
        """Take a plan's path; `light` is what the network offers for LIGHT, if anything."""
        if path is not ComputePath.LIGHT:
            return
        if light is not None and self.sparsity is None:
            self.sparsity = dataclasses.replace(light, first_position=computed_count)
        if has_light_network and self.light_from is None:
            self.light_from = computed_count

    def is_light(self, position: int) -> bool:
        """Tell whether the light network computes the token at `position`."""
        return self.light_from is not None and position >= self.light_from

    def alike(self, computed_count: int, count: int) -> int:
        """Return how many of the next `count` tokens one network computes."""
        if self.light_from is None or computed_count >= self.light_from:
            return count
        return min(count, self.light_from - computed_count)

    def sharable(self, count: int) -> int:
        """Return how many of the first `count` tokens any sequence would compute alike.

        Those behind were computed by queries that chose what they read, or by the
        light network.
        """
        first = [count, self.sparsity.sparse_from if self.sparsity else count]
        return min(*first, count if self.light_from is None else self.light_from)
