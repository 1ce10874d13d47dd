"""The tokens of a step, laid end to end as the kernels want them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from services.inference.kernels import Span, StepBatch
from services.inference.scheduling.budget import Work


def batch_of(work: Iterable[Work]) -> StepBatch:
    """Return what the network computes for `work`, in its order."""
    token_ids: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    for item in work:
        sequence, first = item.sequence, item.sequence.computed_count
        known, guesses = first + item.count, item.guesses
        end, start = known + len(guesses), len(token_ids)
        pages, sparsity = tuple(sequence.pages), sequence.attending.sparsity
        logits = 1 + len(guesses)
        spans.append(Span(start, end - first, end, pages, logits, sparsity, sequence.read_count))
        token_ids += [*sequence.token_ids[first:known], *guesses]
        positions += range(first, end)
    return StepBatch(np.array(token_ids), np.array(positions), tuple(spans))
