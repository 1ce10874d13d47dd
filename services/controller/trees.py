"""Boosted decision trees as arrays: what a library trained, evaluated without it.

Every tree is complete and of one depth; a branch that ended early goes on with the same
value on both sides. The nodes of a level stand from left to right, those of all levels one
after the other, so that the children of node i are 2i + 1 and 2i + 2. All trees take each
step together: a few numpy calls, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Forest:
    """Several sums of trees over the same inputs.

    `feature` int64 and `threshold` float64 [outputs, trees, 2^depth - 1], `leaf` float64
    [outputs, trees, 2^depth], `base` float64 [outputs]. A node goes right where its feature,
    as a float32, is above its threshold, as in scikit-learn.
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
        if nodes & (nodes + 1) or not trees:
            raise ValueError("feature must have 2^depth - 1 nodes of at least one tree")
        if self.feature.min() < 0:
            raise ValueError("feature must not be negative")

    @property
    def inputs(self) -> int:
        """How many inputs it reads at least."""
        return int(self.feature.max()) + 1

    @cached_property
    def _depth(self) -> int:
        return int(self.feature.shape[2]).bit_length()

    @cached_property
    def _steps(self) -> tuple[Places, Floats, Places, Places, Floats]:
        """What `predict` reads, flat: features and thresholds of all nodes, the left child of
        each (a leaf below the last level), the roots, and the leaves.
        """
        outputs, trees, nodes = self.feature.shape
        tree = np.arange(outputs * trees)[:, None]
        node = np.arange(nodes)
        below, leaves = tree * nodes + 2 * node + 1, tree * (nodes + 1) + 2 * node + 1 - nodes
        left = np.where(node >= nodes // 2, leaves, below)
        return (
            self.feature.ravel(),
            self.threshold.ravel(),
            left.ravel(),
            tree.ravel() * nodes,
            self.leaf.ravel(),
        )

    def predict(self, x: Floats) -> Floats:
        """Return [outputs] for one input vector of `inputs` numbers or more."""
        feature, threshold, left, place, leaf = self._steps
        goes_right = x.astype(np.float32).take(feature) > threshold
        for _ in range(self._depth):
            place = left.take(place) + goes_right.take(place)
        return np.asarray(self.base + leaf.take(place).reshape(len(self.base), -1).sum(axis=1))

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
