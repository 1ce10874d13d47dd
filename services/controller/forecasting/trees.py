"""Boosted decision trees as arrays: what a library trained, evaluated without it.

Every tree is complete and of one depth; a branch that ended early goes on with the same
value on both sides. The nodes of a level stand from left to right, those of all levels one
after the other, so that the children of node i are 2i + 1 and 2i + 2.

Nothing is traversed. A tree of depth 3 asks seven questions at most: all are asked at once,
their answers are the bits of a byte, and one table of 256 says for every tree in which leaf
such a byte ends (after QuickScorer, Lucchese et al., SIGIR 2015). That takes some eight numpy
calls, whatever the number of trees.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Places = NDArray[np.int64]

BYTE = 8
"""Bits that hold the answers of one tree; so many nodes it may have at most."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Several sums of trees over the same inputs.

    `feature` int64 and `threshold` float64 [outputs, trees, 2^depth - 1] of depth 1 to 3,
    `leaf` float64 [outputs, trees, 2^depth], `base` float64 [outputs]. A node goes right where
    its feature, as a float32, is above its threshold, as in scikit-learn.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    leaf: Floats
    base: Floats

    def __post_init__(self) -> None:
        outputs, trees, nodes = self.feature.shape
        shapes = {
            "threshold": (outputs, trees, nodes),
            "leaf": (outputs, trees, nodes + 1),
            "base": (outputs,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape or not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite and of shape {shape}")
        if nodes & (nodes + 1) or not 0 < nodes < BYTE or not trees:
            raise ValueError("feature must have 1, 3 or 7 nodes of at least one tree")
        if self.feature.min() < 0:
            raise ValueError("feature must not be negative")

    @property
    def inputs(self) -> int:
        """How many inputs it reads at least."""
        return int(self.feature.max()) + 1

    @cached_property
    def _flat(self) -> tuple[Places, Singles, Places, Places, Floats]:
        """What `predict` reads: features and thresholds of a byte of nodes for each tree, the
        first leaf of each tree, the leaf that each byte ends in, and all leaves.
        """
        outputs, trees, nodes = self.feature.shape
        unused = ((0, 0), (0, 0), (0, BYTE - nodes))
        return (
            np.pad(self.feature, unused).ravel(),
            np.pad(_as_singles(self.threshold), unused, constant_values=np.inf).ravel(),
            np.arange(outputs * trees) * (nodes + 1),
            _reached(nodes),
            self.leaf.ravel(),
        )

    def predict(self, x: Floats) -> Floats:
        """Return [outputs] for one input vector of `inputs` numbers or more."""
        feature, threshold, first, reached, leaf = self._flat
        answers = np.packbits(x.astype(np.float32).take(feature) > threshold)
        found = leaf.take(first + reached.take(answers))
        sums = np.add.reduce(found.reshape(len(self.base), -1), axis=1)
        return np.asarray(self.base + sums)

    def to_lists(self) -> dict[str, Any]:
        """Return nested lists; `json` writes and reads them without loss."""
        return {each.name: getattr(self, each.name).tolist() for each in fields(self)}

    @classmethod
    def from_lists(cls, lists: dict[str, Any]) -> Forest:
        """Undo `to_lists`; raise ValueError, KeyError or TypeError where it is not that."""
        return cls(
            np.array(lists["feature"], dtype=np.int64),
            *(np.array(lists[name], dtype=np.float64) for name in ("threshold", "leaf", "base")),
        )


def _as_singles(threshold: Floats) -> Singles:
    """Return the greatest float32 that is not above each: a float32 is above both or neither."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _reached(nodes: int) -> Places:
    """Return which leaf of a tree of `nodes` each byte of answers ends in, int64 [256]."""
    answer = np.arange(1 << BYTE)
    place = np.zeros(1 << BYTE, dtype=np.int64)
    for _ in range(nodes.bit_length()):
        place = 2 * place + 1 + (answer >> (BYTE - 1 - place) & 1)
    return place - nodes
