"""Texts to measure on: what the model writes itself, and Python's own manual.

Half of the texts are sampled from the model at temperature 1, so that no
collection need be at hand and the model is measured on what it says. The other
half is English and code that it did not write: the help topics of the running
Python (`pydoc_data.topics`, the Language Reference, PSF licence). Texts to fit
and texts to judge are never the same: other openings, other seeds, other topics.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from services.inference.kernels import PAGE_SIZE, Span, StepBatch
from services.inference.models import LoadedModel

SOURCE = "half sampled from the model at T=1, half help topics of Python (pydoc_data.topics)"
_FITTED = ("The", "In the", "A", "How", "When", "We", "To", "This is", "It was", "def", "1.", "If")
_HELD_OUT = ("What", "There", "My", "For", "Why", "She", "On", "Once", "import", "2.", "Dear", "At")


@dataclass(frozen=True)
class Texts:
    """Token ids, [texts, tokens] int64."""

    fitted: torch.Tensor
    held_out: torch.Tensor


def gathered(
    model: LoadedModel,
    *,
    fitted: int,
    held_out: int,
    length: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Texts:
    """Return `fitted` and `held_out` texts of `length` tokens each."""
    counts, openings = (fitted, held_out), (_FITTED, _HELD_OUT)
    firsts = [
        openings[part][index % len(openings[part])]
        for part in (0, 1)
        for index in range(counts[part] // 2)
    ]
    own = sampled(model, firsts, length, seed, progress)
    public = [manual(model, part, counts[part] - counts[part] // 2, length) for part in (0, 1)]
    return Texts(
        torch.cat((own[: fitted // 2], public[0])), torch.cat((own[fitted // 2 :], public[1]))
    )


def manual(model: LoadedModel, part: int, count: int, length: int) -> torch.Tensor:
    """Return `count` pieces of Python's manual from every other topic: part 0 or 1."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    pieces = _pieces(model, [topics[name] for name in sorted(topics)[part::2]], length)
    found = [piece for piece, _ in zip(pieces, range(count), strict=False)]
    return torch.tensor(found, dtype=torch.int64).view(-1, length)


def _pieces(model: LoadedModel, topics: Sequence[str], length: int) -> Iterator[list[int]]:
    """Yield the opening of each topic that is long enough, then what follows."""
    encoded = [model.tokenizer.encode(topic) for topic in topics]
    for start in range(0, max(map(len, encoded)), length):
        for ids in encoded:
            if len(ids) >= start + length:
                yield list(ids[start : start + length])


def sampled(
    model: LoadedModel,
    openings: Sequence[str],
    length: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> torch.Tensor:
    """Return one text of `length` tokens for each opening, drawn at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    rows = [list(model.tokenizer.encode(opening))[:length] for opening in openings]
    pages = -(-length // PAGE_SIZE)
    network: Any = model.network  # each kind steps with a cache of its own kind
    cache = network.new_cache(pages * len(rows))
    fresh = [list(row) for row in rows]
    while any(len(row) < length for row in rows):
        logits = network.step(_batch(rows, fresh, pages), cache)
        drawn = torch.multinomial(
            torch.softmax(torch.as_tensor(logits).cpu(), -1), 1, generator=generator
        )
        fresh = [[int(token)] for token in drawn]
        for row, new in zip(rows, fresh, strict=True):
            row.extend(new)
        progress(min(len(row) for row in rows), length)
    return torch.tensor([row[:length] for row in rows], dtype=torch.int64).view(-1, length)


def _batch(rows: list[list[int]], fresh: list[list[int]], pages: int) -> StepBatch:
    """Return the step of the `fresh` tokens, the last ones of `rows`."""
    spans: list[Span] = []
    positions: list[int] = []
    start = 0
    for index, (row, new) in enumerate(zip(rows, fresh, strict=True)):
        table = tuple(range(index * pages, (index + 1) * pages))
        # A text longer than asked for runs on in its last place; it is cut afterwards.
        end = min(len(row), pages * PAGE_SIZE)
        spans.append(Span(start, len(new), end, table))
        positions.extend(range(end - len(new), end))
        start += len(new)
    ids = [token for new in fresh for token in new]
    return StepBatch(np.array(ids), np.array(positions), tuple(spans))
