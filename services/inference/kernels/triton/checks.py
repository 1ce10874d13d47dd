"""What a batch must be before anything reads or writes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.inference.kernels.triton.cache import PAGE, DeviceCache
from thermesh.errors import InvalidArgument

if TYPE_CHECKING:
    from services.inference.kernels import Span, StepBatch


def check_batch(batch: StepBatch, cache: DeviceCache, vocabulary_size: int) -> None:
    """Raise InvalidArgument for a batch that does not fit the network or the cache."""
    if not isinstance(cache, DeviceCache):
        raise InvalidArgument("the cache is not of this network", field="cache")
    for field in ("token_ids", "positions"):
        vector = np.asarray(getattr(batch, field))
        if vector.ndim != 1 or vector.dtype != np.int64:
            raise InvalidArgument(f"{field} must be a vector of int64", field=field)
    tokens = len(batch.token_ids)
    if len(batch.positions) != tokens or not tokens:
        raise InvalidArgument("as many positions as token_ids are needed", field="positions")
    if not 0 <= int(batch.token_ids.min()) <= int(batch.token_ids.max()) < vocabulary_size:
        raise InvalidArgument(f"token ids must be in [0, {vocabulary_size})", field="token_ids")
    end = 0
    for span in batch.spans:
        if span.start != end:
            raise InvalidArgument("spans must follow one another", field="batch")
        end += _checked(span, batch, cache.pages)
    if end != tokens:
        raise InvalidArgument("spans must cover all tokens", field="batch")


def _checked(span: Span, batch: StepBatch, pages: int) -> int:
    """Return the tokens of a span that is sound."""
    if not 1 <= span.count <= span.context_length:
        raise InvalidArgument("a span has fewer tokens than it adds", field="batch")
    if span.start + span.count > len(batch.token_ids):
        raise InvalidArgument("a span ends after the last token", field="batch")
    if span.sparsity is not None and span.sparsity.head_windows is not None:
        raise InvalidArgument("heads have no windows on a device", field="head_windows")
    first = span.context_length - span.count
    if int(batch.positions[span.start]) != first:
        raise InvalidArgument("positions must follow the sequence", field="positions")
    needed = span.page_table[: -(-span.context_length // PAGE)]
    if len(needed) * PAGE < span.context_length:
        raise InvalidArgument("a page table is too short", field="batch")
    if not all(0 <= page < pages for page in needed):
        raise InvalidArgument(f"pages must be in [0, {pages})", field="batch")
    return span.count
