"""The trained head of the task classifier: multinomial logistic regression.

    z = W . (2 e, c / 6) + b,   p = softmax(z)

on the embedding `e` [d] by the encoder's first `depth` layers and the cues' log odds `c`
[tasks]. Its classes are TASKS and one more, `unread`: texts the encoder was not made for, such
as those in other languages. `python -m benchmarks.features train` makes the shipped file from
labelled prompts, with the temperature of a five-fold calibration (Guo et al., arXiv
1706.04599) already divided into W and b.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.feature.encoding import Embedding
from thermesh.features import TASKS

FILE = pathlib.Path(__file__).with_name("task_head.npz")
GLANCE_FILE = pathlib.Path(__file__).with_name("glance_head.npz")
"""Of a head of depth 0, on what `glance.Glance` returns."""

EMBEDDING_SCALE = 2.0
CUES_SCALE = 1.0 / 6.0
"""Bring both kinds of evidence to the same size, so that one penalty fits both."""


@dataclass(frozen=True, eq=False)
class Head:
    """`weight` float32 [tasks + 1, d + tasks], `bias` [tasks + 1], made for the first `depth`
    layers of `encoder`; 0: for its token vectors.
    """

    encoder: str
    depth: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, embedding: Embedding, cues: list[float]) -> NDArray[np.float64]:
        """Return the probability of each of TASKS and, last, that the text was not read."""
        z = np.asarray(self.weight @ inputs(embedding, cues) + self.bias, dtype=np.float64)
        weights = np.exp(z - z.max())
        return np.asarray(weights / weights.sum())


def inputs(embedding: Embedding, cues: list[float]) -> NDArray[np.float32]:
    """Return what the head is a linear function of: float32 [d + tasks]."""
    scaled = EMBEDDING_SCALE * embedding, CUES_SCALE * np.asarray(cues, dtype=np.float32)
    return np.concatenate(scaled).astype(np.float32)


def load(encoder: str, dimensions: int, path: pathlib.Path | None = None) -> Head | None:
    """Return the shipped head, None where it was made for another encoder."""
    with np.load(path or FILE) as stored:
        head = Head(str(stored["encoder"]), int(stored["depth"]), stored["weight"], stored["bias"])
    fits = head.weight.shape == (len(TASKS) + 1, dimensions + len(TASKS))
    return head if fits and head.encoder == encoder else None


def save(head: Head, path: pathlib.Path = FILE, **about: Any) -> None:
    """Write what `load` reads; `about` is kept beside it."""
    np.savez_compressed(
        path,
        encoder=np.array(head.encoder),
        depth=np.array(head.depth),
        weight=head.weight,
        bias=head.bias,
        **about,
    )
