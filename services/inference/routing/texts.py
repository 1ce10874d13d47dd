"""Long texts to measure heads on, that every Python has: its manual and its own code.

The last help topics (`pydoc_data.topics`, the Language Reference) and modules of the
standard library, both PSF licence. `benchmarks.long_context` judges by the first topics.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
from asyncio import base_events
from collections.abc import Callable

TOPICS = 2
"""Texts of the manual; one of code is added."""


def gathered(encode: Callable[[str], list[int]], context: int) -> list[list[int]]:
    """Return texts of `context` token ids, or fewer where there is no more."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    manual = encode("\n\n".join(text for _, text in sorted(topics.items())))
    code = encode(inspect.getsource(argparse) + inspect.getsource(base_events))
    ends = [len(manual) - index * context for index in range(TOPICS)]
    return [*(manual[max(end - context, 0) : end] for end in ends), code[:context]]
