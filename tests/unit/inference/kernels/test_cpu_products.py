"""Packing and products of the C++ kernels, tier by tier."""

import ctypes
import math

import gguf
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from quantised_network import KINDS

from services.inference.kernels.cpu import memory, native, status
from services.inference.kernels.cpu.network import Engine
from services.inference.kernels.cpu.packing import KINDS as NUMBERS

STATUS = status()
pytestmark = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=STATUS.tiers or ["none"])
def engine(request):
    """An engine of each tier that this processor runs."""
    return Engine(native.library(), request.param)


@st.composite
def matrices(draw):
    """Format, stored rows, and the numbers they stand for, of any shape and scale."""
    kind = draw(st.sampled_from(list(KINDS)))
    rows, blocks = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    numbers = random.standard_normal((rows, 32 * blocks)) * 10.0 ** draw(st.integers(-3, 2))
    stored = gguf.quants.quantize(numbers.astype("f4"), KINDS[kind]).view(np.uint8)
    if kind.startswith("Q") and draw(st.booleans()):  # any codes at all, such as -128 in Q8_0
        codes = stored.reshape(rows * blocks, -1)[:, (4 if kind == "Q4_1" else 2) :]
        codes[:] = random.integers(0, 256, codes.shape, dtype=np.uint8)
    return kind, stored, gguf.quants.dequantize(stored, KINDS[kind]), random


def packed(kind, stored, columns):
    """Pack a matrix; returns it with the memory that it points into."""
    library = native.library()
    number, rows = NUMBERS[kind], len(stored)
    place = memory.anonymous(library.thermesh_packed_bytes(number, rows, columns))
    stored = np.ascontiguousarray(stored)
    problem = library.thermesh_pack(
        number, stored.ctypes.data, stored.nbytes, rows, columns, place.ctypes.data, place.nbytes
    )
    assert problem is None
    return native.Matrix(place.ctypes.data, number, rows, columns), place


@PROPERTY
@given(matrix=matrices())
def test_packing_loses_nothing(matrix):
    """Each row unpacks to exactly what the format's authors dequantise it to."""
    kind, stored, numbers, _ = matrix
    described, _memory = packed(kind, stored, numbers.shape[1])
    row = np.empty(numbers.shape[1], "f4")

    for index, expected in enumerate(numbers):
        native.library().thermesh_row(ctypes.byref(described), index, row.ctypes.data)
        np.testing.assert_array_equal(row, expected)


@PROPERTY
@given(matrix=matrices(), count=st.integers(1, 19), outlier=st.sampled_from([0.0, 2.0, 1e30]))
def test_a_product_is_exact_but_for_the_rounding_of_activations(engine, matrix, count, outlier):
    """No output is further off than activations of 8 or 16 bits can make it."""
    kind, stored, numbers, random = matrix
    described, _memory = packed(kind, stored, numbers.shape[1])
    x = (random.standard_normal((count, numbers.shape[1])) * random.lognormal(0, 2)).astype("f4")
    out = np.empty((count, len(numbers)), "f4")

    problem = native.library().thermesh_linear(
        engine.handle, ctypes.byref(described), x.ctypes.data, count, outlier, 0, out.ctypes.data
    )

    assert problem is None
    blocks = np.abs(x.reshape(count, -1, 32)).max(axis=2, keepdims=True)
    fine = blocks > outlier * np.sqrt(np.square(x).mean(axis=1))[:, None, None] * 1.0001
    step = np.where(fine, blocks / 4064, blocks / 254) * np.ones((1, 1, 32))
    bound = step.reshape(count, -1) @ np.abs(numbers.T.astype("f8"))
    exact = x.astype("f8") @ numbers.T.astype("f8")
    scale = np.abs(x).astype("f8") @ np.abs(numbers.T.astype("f8"))
    assert (np.abs(out - exact) <= 1.001 * bound + 3e-6 * scale + 1e-30).all()


@PROPERTY
@given(matrix=matrices(), count=st.integers(1, 50))
def test_a_prompt_s_product_is_as_close_as_its_bits_allow(engine, matrix, count):
    """No output is further off than bfloat16 of each factor can make it, or eight bits of blocks
    in which 16 columns are turned together.
    """
    kind, stored, numbers, random = matrix
    described, _memory = packed(kind, stored, numbers.shape[1])
    x = (random.standard_normal((count, numbers.shape[1])) * random.lognormal(0, 2)).astype("f4")
    out = np.empty((count, len(numbers)), "f4")

    problem = native.library().thermesh_linear(
        engine.handle, ctypes.byref(described), x.ctypes.data, count, 0.0, 1, out.ctypes.data
    )

    assert problem is None
    exact = x.astype("f8") @ numbers.T.astype("f8")
    assert (np.abs(out - exact) <= furthest(engine.tier, x, numbers) + 1e-30).all()


@PROPERTY
@given(
    matrix=matrices(),
    powers=st.lists(st.sampled_from([-44, -30, -18, 0, 17, 19, 37]), min_size=5, max_size=5),
    is_empty=st.booleans(),
)
def test_a_prompt_s_product_of_any_size_is_close_or_no_number(engine, matrix, powers, is_empty):
    """Blocks of activations of all sizes that floats have, and outputs without any weight: what
    does not fit is never told as something else.
    """
    kind, stored, numbers, random = matrix
    if is_empty:
        stored, numbers = np.zeros_like(stored), np.zeros_like(numbers)
    described, _memory = packed(kind, stored, numbers.shape[1])
    sizes = np.repeat(10.0 ** np.array(powers), 32)[: numbers.shape[1]]
    x = (random.standard_normal((3, numbers.shape[1])) * sizes).astype("f4")
    out = np.empty((3, len(numbers)), "f4")

    problem = native.library().thermesh_linear(
        engine.handle, ctypes.byref(described), x.ctypes.data, 3, 0.0, 1, out.ctypes.data
    )

    assert problem is None
    exact = x.astype("f8") @ numbers.T.astype("f8")
    vanished = 1e-14 * np.abs(numbers).sum(axis=1)
    is_close = np.abs(out - exact) <= furthest(engine.tier, x, numbers) + vanished + 1e-30
    assert (is_close | ~np.isfinite(out)).all()
    if np.abs(x).max() < 1e18:
        assert np.isfinite(out).all()


def furthest(tier, x, numbers):
    """How far off products of prompts may be: [rows, outputs]."""
    if tier in ("avx512-bf16", "avx512-vnni"):
        # Half a step of a factor is at most 4 / 254 of its block's length, before the other one
        # is 4 times as long and sums over 32, and 16 times what is meant comes out. Steps of
        # activations are up to an eighth longer, as their mantissas have three bits.
        lengths = [
            np.linalg.norm(m.reshape(len(m), -1, 32).astype("f8"), axis=2) for m in (x, numbers)
        ]
        return 1.01 * (1 + 1.125) * math.sqrt(32) / 254 * (lengths[0] @ lengths[1].T)
    return 2.02 * 2.0**-8 * (np.abs(x).astype("f8") @ np.abs(numbers.T.astype("f8")))


@PROPERTY
@given(
    matrix=matrices(),
    outlier=st.sampled_from([0.0, 2.0, 1e30]),
    is_prompt=st.integers(0, 1),
    count=st.sampled_from([19, 37, 49]),
)
def test_a_row_does_not_depend_on_its_neighbours(engine, matrix, outlier, is_prompt, count):
    """The product of one row has the same bits alone and among any others: also where rows
    are more than those that are multiplied while weights are dequantised."""
    kind, stored, numbers, random = matrix
    described, _memory = packed(kind, stored, numbers.shape[1])
    x = random.standard_normal((count, numbers.shape[1])).astype("f4")
    x[::3, 5] *= 50
    together, alone = np.empty((count, len(numbers)), "f4"), np.empty(len(numbers), "f4")
    linear = native.library().thermesh_linear
    matrix = ctypes.byref(described)
    linear(engine.handle, matrix, x.ctypes.data, count, outlier, is_prompt, together.ctypes.data)

    for row in range(count):
        linear(engine.handle, matrix, x[row].ctypes.data, 1, outlier, is_prompt, alone.ctypes.data)
        np.testing.assert_array_equal(alone, together[row])


@pytest.mark.parametrize("offset", [0, 1])
def test_long_rows_are_written_wherever_they_lie(engine, offset):
    """Outputs as many as logits are those of a row alone, at the beginning of a line or not."""
    random = np.random.default_rng(5)
    stored = gguf.quants.quantize(random.standard_normal((16400, 64)).astype("f4"), KINDS["Q8_0"])
    described, _memory = packed("Q8_0", stored, 64)
    x = random.standard_normal((7, 64)).astype("f4")
    together = memory.lines(1, 7 * 16400 + offset)[0, offset:].reshape(7, 16400)
    alone = np.empty(16400, "f4")
    linear = native.library().thermesh_linear

    linear(engine.handle, ctypes.byref(described), x.ctypes.data, 7, 0.0, 0, together.ctypes.data)

    for row in range(7):
        linear(engine.handle, ctypes.byref(described), x[row].ctypes.data, 1, 0.0, 0,
               alone.ctypes.data)  # fmt: skip
        np.testing.assert_array_equal(alone, together[row])


def test_zeros_give_zeros(engine):
    """A row of zeros, whose scale is 0, gives zeros and not a division by it."""
    stored = gguf.quants.quantize(np.ones((16, 64), "f4"), KINDS["Q4_1"])
    described, _memory = packed("Q4_1", stored, 64)
    x, out = np.zeros((3, 64), "f4"), np.full((3, 16), np.nan, "f4")

    native.library().thermesh_linear(
        engine.handle, ctypes.byref(described), x.ctypes.data, 3, 0.0, 0, out.ctypes.data
    )

    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize(
    ("kind", "rows", "columns", "size"),
    [
        (3, 16, 32, 320),
        (3, 17, 64, 1280),
        (2, 1, 32, 288),
        (8, 16, 32, 544),
        (3, 16, 33, 0),
        (3, 0, 32, 0),
        (3, -1, 32, 0),
        (3, 16, 0, 0),
        (3, 1 << 40, 32, 0),
        (1, 16, 32, 1024),
        (30, 17, 64, 4096),
        (7, 16, 32, 0),
        (-5, 16, 32, 0),
    ],
)
def test_packed_bytes_are_those_of_whole_tiles(kind, rows, columns, size):
    """A size that cannot be packed takes no bytes, which says so."""
    assert native.library().thermesh_packed_bytes(kind, rows, columns) == size


def test_packing_refuses_wrong_sizes_and_missing_parts():
    """The library reads and writes exactly what it was given, or nothing."""
    pack = native.library().thermesh_pack
    source, place = np.zeros(320, np.uint8), np.zeros(320, np.uint8)
    at, to = source.ctypes.data, place.ctypes.data

    assert pack(3, at, 320, 16, 32, to, 320) is None
    assert b"wrong size" in pack(3, at, 319, 16, 32, to, 320)
    assert b"wrong size" in pack(3, at, 320, 16, 32, to, 319)
    assert b"cannot be packed" in pack(7, at, 320, 16, 32, to, 320)
    assert b"cannot be packed" in pack(3, None, 320, 16, 32, to, 320)
    assert b"cannot be packed" in pack(3, at, 320, 16, 32, None, 320)


@pytest.mark.parametrize("half", [0x7C00, 0xFC00, 0x7E01])
def test_scales_that_are_not_finite_are_refused(half):
    """A broken file cannot bring infinity into a network."""
    source, place = np.zeros(320, np.uint8), np.zeros(320, np.uint8)
    source[42:44] = (half & 0xFF, half >> 8)

    problem = native.library().thermesh_pack(
        3, source.ctypes.data, 320, 16, 32, place.ctypes.data, 320
    )

    assert b"not finite" in problem


@pytest.mark.parametrize(("kind", "number"), [(1, 0xFC00), (1, 0x7E01), (30, 0x7F80), (30, 0xFFC0)])
def test_weights_that_are_not_finite_are_refused(kind, number):
    """Nor can one whose weights have no scales."""
    source, place = np.zeros(512, np.uint16), np.zeros(1024, np.uint8)
    source[77] = number

    problem = native.library().thermesh_pack(
        kind, source.ctypes.data, 1024, 16, 32, place.ctypes.data, 1024
    )

    assert b"not finite" in problem


def test_functions_refuse_null():
    """Every function that takes pointers survives not being given any."""
    library = native.library()

    assert library.thermesh_engine_new(None) is None
    assert library.thermesh_engine_new(b"sse9") is None
    assert library.thermesh_tier(None) is None
    assert library.thermesh_check(None)
    assert library.thermesh_step(None, None, None)
    assert library.thermesh_linear(None, None, None, 1, 0.0, 0, None)
    assert library.thermesh_row(None, 0, None)
    library.thermesh_engine_free(None)
