"""Weights in groups of few bits, and the blocks that hold the same numbers."""

import gguf
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from services.inference.models import group_codes
from services.inference.models.group_codes import GroupFormat, Rows

FORMATS = [
    GroupFormat(bits, group, has_minimum)
    for has_minimum in (False, True)
    for bits in ((2, 3, 4) if has_minimum else (2, 3, 4, 5, 6, 7, 8))
    for group in (32, 64, 96)
]


def random_rows(form, seed, rows=3, columns=192):
    """Return codes and scales as any search could leave them."""
    random = np.random.default_rng(seed)
    halves = (rows, columns // form.group)
    return Rows(
        random.integers(0, 1 << form.bits, (rows, columns)).astype(np.uint8),
        random.standard_normal(halves).astype(np.float16),
        random.standard_normal(halves).astype(np.float16) if form.has_minimum else None,
    )


@given(st.sampled_from(FORMATS), st.integers(0, 1 << 32))
def test_stored_rows_come_back(form, seed):
    """Storing and reading changes no code, scale or minimum, in the bytes announced."""
    rows = random_rows(form, seed)

    content = group_codes.stored(rows, form)
    again = group_codes.taken_apart(content, form, 192)

    assert content.shape == (3, form.row_bytes(192))
    assert 8 * content.shape[1] == form.bits_per_weight * 192
    np.testing.assert_array_equal(again.codes, rows.codes)
    np.testing.assert_array_equal(again.scales, rows.scales)
    np.testing.assert_array_equal(again.minima, rows.minima)


@given(st.sampled_from(FORMATS), st.integers(0, 1 << 32))
def test_blocks_hold_the_same_weights(form, seed):
    """The format's authors read the very same numbers from the blocks of a row."""
    rows = random_rows(form, seed)
    content = group_codes.stored(rows, form)

    blocks = group_codes.blocks(content, form, 192)
    numbers = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[form.kind])

    np.testing.assert_array_equal(numbers, rows.weights(form))


@pytest.mark.parametrize(
    ("form", "columns", "word"),
    [
        (GroupFormat(1, 32, False), 64, "1 bits"),
        (GroupFormat(9, 32, False), 64, "9 bits"),
        (GroupFormat(5, 32, True), 64, "5 bits"),
        (GroupFormat(4, 16, True), 64, "groups of 16"),
        (GroupFormat(4, 0, True), 64, "groups of 0"),
        (GroupFormat(4, 48, True), 96, "groups of 48"),
        (GroupFormat(4, 64, True), 96, "whole groups"),
        (GroupFormat(4, 64, True), 0, "whole groups"),
    ],
)
def test_impossible_formats_are_named(form, columns, word):
    """A format that cannot be stored or laid out as blocks says what is wrong."""
    assert word in form.problem(columns)


@pytest.mark.parametrize("form", FORMATS)
def test_possible_formats_have_no_problem(form):
    """Each format of the tool fits rows of whole groups."""
    assert form.problem(192) is None
