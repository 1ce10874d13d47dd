"""The fast paths under the names of their reference. Importing this imports Triton."""

from __future__ import annotations

from services.inference.kernels.triton.attention import attend, attend_tiles
from services.inference.kernels.triton.linear import linear
from services.inference.kernels.triton.means import mean_scores, summarise
from services.inference.kernels.triton.rope import rotate_and_store
from services.inference.kernels.triton.sampling import sample
from services.inference.kernels.triton.scaled import normed_codes, scaled_linear
from services.inference.kernels.triton.selection import chosen, page_bounds, page_scores

__all__ = [
    "attend",
    "attend_tiles",
    "chosen",
    "linear",
    "mean_scores",
    "name",
    "normed_codes",
    "page_bounds",
    "page_scores",
    "rotate_and_store",
    "sample",
    "scaled_linear",
    "summarise",
]

name = "triton"
