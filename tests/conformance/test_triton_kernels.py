"""Every Triton kernel computes what its reference means, in Triton's interpreter.

`make gpu-check` runs the same cases on a real device.
"""

import dataclasses
import importlib

import gguf
import numpy as np
import pytest
import torch
from quantised_network import KINDS

from benchmarks.gpu.conformance import TOLERANCE, cases, normal
from services.inference.kernels import Blocks
from services.inference.kernels.triton import matrix, reference, status
from services.inference.kernels.triton.drawing import is_plain, launch, settings
from services.inference.sampling.sampler import Row, sample
from services.inference.sampling.settings import Edt, Fixed, Guard, Penalties, Sampling

STATUS = status()
pytestmark = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
PROGRAMS = {"fixed": Fixed(0.7), "hot": Fixed(2.0), "EDT": Edt(0.9, 1.0)}
GUARDS = {"open": Guard(), "min p": Guard(min_p=0.05)}


@pytest.fixture(scope="module")
def operations():
    """The fast paths, imported where Triton is there."""
    return importlib.import_module("services.inference.kernels.triton.operations")


@pytest.fixture(autouse=True)
def one_thread():
    """The interpreter computes with torch and numpy; helpers would only wait."""
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_a_kernel_computes_what_its_reference_means(case, operations):
    """The fast path and the reference agree on every case."""
    allowed = TOLERANCE["cpu"] if case.interpreted is None else case.interpreted
    assert case.deviation(operations, "cpu") <= allowed


@pytest.mark.parametrize("kinds", [("Q4_0",), ("Q4_1",), ("Q8_0",), ("Q4_0", "Q4_1", "Q8_0")])
def test_packing_loses_nothing(kinds):
    """A matrix of a file, or several as one, stands for exactly the numbers of the file."""
    random = np.random.default_rng(0)
    parts, expected = [], []
    for kind in kinds:
        rows = gguf.quants.quantize(random.standard_normal((8, 96)).astype("f4"), KINDS[kind])
        parts.append(Blocks(kind, rows, 96))
        expected.append(torch.from_numpy(gguf.quants.dequantize(rows, KINDS[kind])))

    packed = matrix.from_blocks(parts)

    torch.testing.assert_close(matrix.dequantise(packed), torch.cat(expected), atol=0, rtol=1e-6)
    assert (packed.outputs, packed.inputs) == (8 * len(kinds), 96)


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_a_share_of_a_matrix_is_that_of_its_numbers(name):
    """Cutting a packed matrix is cutting what it stands for."""
    whole = matrix.quantise(normal(8, 128), 4, 32)
    numbers = matrix.dequantise(whole)

    part = getattr(whole, name)(4, 8) if name == "rows" else whole.columns(64, 128)

    expected = numbers[4:8] if name == "rows" else numbers[:, 64:]
    assert torch.equal(matrix.dequantise(part), expected)


def test_products_cut_in_parts_do_not_depend_on_who_was_first(operations):
    """A product whose inputs are split gives the same bits again, counters being back at zero."""
    hidden, weights = normal(1, 1024), matrix.quantise(normal(16, 1024), 4, 128)
    plan = dataclasses.replace(
        operations.linear.__globals__["plan"](1, weights, 16, may_split=True), split=4, block_k=128
    )

    first, second = (operations.linear(hidden, weights, cut=plan) for _ in range(2))

    assert torch.equal(first, second)
    torch.testing.assert_close(first, reference.linear(hidden, weights), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("guard", GUARDS)
def test_what_is_told_of_a_draw_is_what_the_host_tells(operations, program, guard):
    """Temperature, entropy and log-probabilities are those of the sampler on the host."""
    logits = normal(2, 500, seed=3) * torch.tensor([[1.0], [6.0]])
    rows = [Row(Sampling(PROGRAMS[program], GUARDS[guard]), seed=5, token_index=0)] * 2

    drawn = launch(operations.sample, logits, rows).read()

    for actual, expected in zip(drawn, sample(logits, rows), strict=True):
        assert actual.token_id == expected.token_id
        for field in ("temperature", "entropy", "log_probability", "model_log_probability"):
            wanted = getattr(expected, field)
            assert getattr(actual, field) == pytest.approx(wanted, abs=2e-4, rel=2e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_distribution_draw_nothing(operations, bad):
    """A row with NaN or infinity gives None, the others their tokens."""
    logits = normal(2, 50)
    logits[0, 7] = bad
    rows = [Row(Sampling(Fixed(1.0)), seed=1, token_index=0)] * 2

    drawn = launch(operations.sample, logits, rows).read()

    assert drawn[0] is None
    assert drawn[1].token_id == sample(logits[1:], rows[1:])[0].token_id


@pytest.mark.parametrize(
    "change",
    [
        {"allowed": torch.arange(50) % 2 == 1},
        {"candidate_count": 3},
        {"sampling": Sampling(Fixed(1.0), penalties=Penalties(presence=1.0))},
        {"sampling": Sampling(Fixed(1.0), logit_bias=((3, 100.0),))},
    ],
    ids=["constraint", "candidates", "penalties", "bias"],
)
def test_rows_that_the_kernel_cannot_draw_are_drawn_by_the_sampler(operations, change):
    """What only the host can do, the host does, beside rows drawn on the device."""
    plain = Row(Sampling(Fixed(1.0)), seed=1, token_index=0)
    rows = [dataclasses.replace(plain, **change), plain]
    logits = normal(2, 50)

    drawn = launch(operations.sample, logits, rows).read()

    assert not is_plain(rows[0])
    assert drawn[0] == sample(logits[:1], rows[:1])[0]
    assert drawn[1].token_id == sample(logits[1:], rows[1:])[0].token_id
    fields = importlib.import_module("services.inference.kernels.triton.sampling").FIELDS
    assert len(settings(plain)) == len(fields)
