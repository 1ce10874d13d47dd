"""The tokens of a step, laid end to end as the kernels want them."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from services.inference.kernels import Span, StepBatch
from services.inference.scheduler import Work


def batch_of(work: Iterable[Work]) -> StepBatch:
    """Return what the network computes for `work`, in its order."""
    token_ids: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    for item in work:
        sequence, first = item.sequence, item.sequence.computed_count
        end, start = first + item.count, len(token_ids)
        pages, sparsity = tuple(sequence.pages), sequence.attending.sparsity
        spans.append(Span(start, item.count, end, pages, sparsity=sparsity))
        token_ids += sequence.token_ids[first:end]
        positions += range(first, end)
    return StepBatch(torch.tensor(token_ids), torch.tensor(positions), tuple(spans))
