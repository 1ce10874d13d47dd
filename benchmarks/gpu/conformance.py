"""Every kernel against its reference, on the device or in Triton's interpreter.

The same cases run in CI, where they are small enough for the interpreter, and
in `make gpu-check`. A case gives numbers of both; they agree when the root mean
square of their difference is small against that of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu import cache_cases, product_cases
from benchmarks.gpu.case import TOLERANCE, Case, normal

__all__ = ["TOLERANCE", "Case", "cases", "normal"]


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from product_cases.product_cases()
    yield from product_cases.eight_bit_cases()
    yield from cache_cases.rope_cases()
    yield from cache_cases.attention_cases()
    yield from cache_cases.selection_cases()
    yield from cache_cases.gate_cases()
    yield from product_cases.drawing_cases()
