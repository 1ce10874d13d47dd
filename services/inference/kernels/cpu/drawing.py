"""Tokens of a batch, drawn by the library where it knows all that was asked.

It reads a row's logits once or twice, where the sampler that defines the meaning
makes a dozen passes of them. Rows with a constraint, biases or penalties, and those
whose logits are no distribution, are left to that sampler. Which of the two draws
depends on the row alone, so what else is in the batch changes nothing here either.

The library finds what the guard keeps, and draws at once where the temperature is fixed.
Other temperatures depend on what it found: these are found in Python, by the one place that
knows the programs, and then the library draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.inference.kernels.cpu import native
from services.inference.sampling.sampler import (
    Drawn,
    Row,
    best_of,
    evenness,
    sample,
    temperature_by,
)
from services.inference.sampling.settings import Dynatemp, Fixed

Vector = npt.NDArray[np.float32]
Part = Callable[[Any, int], None]
"""A function of the library for an array of `native.Row` and its length."""


def draw(
    survey: Part, finish: Part, logits: Sequence[Vector], rows: Sequence[Row]
) -> list[Drawn | None]:
    """Draw as `sampler.sample` does, from a vector of logits for each row."""
    # Those whose temperature is to be found come first.
    to_find: list[int] = []
    fixed: list[int] = []
    for place, row in enumerate(rows):
        if is_plain(row):
            (fixed if _is_fixed(row) else to_find).append(place)
    plain = to_find + fixed
    asked = (native.Row * len(plain))()
    found: dict[int, native.Row] = {}
    for place, fields in zip(plain, asked, strict=True):
        _ask(fields, logits[place], rows[place])
        found[place] = fields
    if plain:
        survey(asked, len(plain))
    for place in to_find:
        found[place].temperature = _temperature(found[place], rows[place])
    if to_find:
        finish(asked, len(to_find))
    return [_drawn(found.get(place), logits[place], row) for place, row in enumerate(rows)]


def is_plain(row: Row) -> bool:
    """Tell whether the library can draw for `row`."""
    sampling = row.sampling
    return row.allowed is None and not sampling.logit_bias and sampling.penalties.are_off


def _ask(fields: native.Row, logits: Vector, row: Row) -> None:
    guard = row.sampling.guard
    fields.logits = logits.ctypes.data
    fields.seed, fields.token_index = row.seed, row.token_index
    fields.top_n_sigma = _or_none(guard.top_n_sigma)
    fields.below = _or_none(None if guard.min_p is None else -math.log(guard.min_p))
    fields.top_p = _or_none(guard.top_p)
    fields.top_k = -1 if guard.top_k is None else guard.top_k
    fields.wants_spread = isinstance(row.sampling.program, Dynatemp)
    fields.temperature = _temperature(fields, row) if _is_fixed(row) else -1.0


def _is_fixed(row: Row) -> bool:
    return isinstance(row.sampling.program, Fixed)


def _or_none(cut: float | None) -> float:
    return -1.0 if cut is None else cut


def _temperature(fields: native.Row, row: Row) -> float:
    program = row.sampling.program
    is_greedy = isinstance(program, Fixed) and not program.temperature
    if is_greedy or not math.isfinite(fields.entropy):
        return 0.0
    spread = evenness(fields.spread, fields.kept) if fields.wants_spread else 0.0
    return temperature_by(program, fields.entropy, spread)


def _drawn(fields: native.Row | None, logits: Vector, row: Row) -> Drawn | None:
    if fields is None or not math.isfinite(fields.entropy):
        return sample([logits], [row])[0]
    return Drawn(
        fields.token,
        _temperature(fields, row),
        fields.entropy,
        fields.log_probability,
        fields.model_log_probability,
        best_of(logits, row.candidate_count),
    )


def part_of(function: Any, engine: Any, size: int, threads: int) -> Part:
    """Return `function` of the library, on rows of `size` logits with so many threads."""

    def part(rows: Any, count: int) -> None:
        problem = function(engine, rows, count, size, threads)
        if problem:
            raise MemoryError(problem.decode())

    return part
