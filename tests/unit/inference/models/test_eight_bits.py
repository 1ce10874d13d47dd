"""Weights of formats that the C++ kernels lack, in eight bits where that is asked for."""

import gguf
import numpy as np
import pytest
import torch
from scored import scored

from services.inference.kernels import CpuNetwork, status
from services.inference.models import load
from services.inference.models.eight_bits import rounded
from services.inference.models.network import Network

TOKENS = torch.tensor([5, 40, 3, 77, 200, 12, 9])
SHAPE = {"hidden": 64, "head_size": 16, "intermediate": 96}
STATUS = status()
built = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)


@pytest.fixture
def in_eight_bits(monkeypatch):
    """Ask for eight bits, of the C++ kernels wherever they are."""
    monkeypatch.setenv("THERMESH_WEIGHTS", "int8")
    monkeypatch.setenv("THERMESH_KERNELS", "cpu")


def read_back(blocks):
    """Return blocks of Q8_0 as float32, by the package that defines them."""
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)


def test_a_weight_is_at_most_half_a_step_off():
    """A step is a 127th of the largest weight of a block, whatever the block's size."""
    draw = np.random.default_rng(3)
    sizes = 10.0 ** draw.uniform(-6, 6, size=(40, 1))
    rows = (draw.standard_normal((40, 96)) * sizes).astype(np.float32)

    found = read_back(rounded(rows))

    largest = np.repeat(np.abs(rows.reshape(40, 3, 32)).max(-1), 32, axis=1)
    # Half precision moves a step by a 2,048th, its smallest number by more.
    assert (np.abs(found - rows) <= largest / 127 * 0.57 + 127 * 2.0**-25).all()


def test_a_block_of_zeros_stays_one():
    """There is no scale to divide by."""
    assert not read_back(rounded(np.zeros((2, 64), np.float32))).any()


@built
def test_a_folder_of_sixteen_bits_needs_no_rounding(write_folder, tiny, dense_logits):
    """The packed kernels serve bfloat16 as it is stored."""
    model = tiny(**SHAPE)
    loaded = load(write_folder(model, bf16=True, shards=2), "tiny")
    for name, value in model.weights.items():
        model.weights[name] = (value.view(np.uint32) >> 16 << 16).view(np.float32)

    assert isinstance(loaded.network, CpuNetwork)
    expected = dense_logits(model, TOKENS.numpy())
    np.testing.assert_allclose(scored(loaded.network, TOKENS), expected, atol=2e-2 * expected.std())


@built
@pytest.mark.usefixtures("in_eight_bits")
@pytest.mark.parametrize(("bf16", "tied"), [(True, True), (False, False)])
def test_a_folder_runs_on_the_packed_kernels(write_folder, tiny, dense_logits, bf16, tied):
    """Its logits are those of the rounded weights."""
    model = tiny(tied=tied, **SHAPE)
    loaded = load(write_folder(model, bf16=bf16, shards=2), "tiny")
    for name, value in model.weights.items():
        stored = (value.view(np.uint32) >> 16 << 16).view(np.float32) if bf16 else value
        model.weights[name] = read_back(rounded(stored)) if value.ndim > 1 else stored

    assert isinstance(loaded.network, CpuNetwork)
    expected = dense_logits(model, TOKENS.numpy())
    np.testing.assert_allclose(loaded.network.score(TOKENS), expected, atol=2e-2)


@built
@pytest.mark.usefixtures("in_eight_bits")
def test_a_gguf_file_runs_on_the_packed_kernels(write_gguf, tiny, dense_logits):
    """Half precision is rounded too."""
    model = tiny(**SHAPE)
    loaded = load(write_gguf(model, kind=gguf.GGMLQuantizationType.F16), "tiny")
    for name, value in model.weights.items():
        if value.ndim > 1:
            model.weights[name] = read_back(rounded(value.astype(np.float16).astype(np.float32)))

    assert isinstance(loaded.network, CpuNetwork)
    expected = dense_logits(model, TOKENS.numpy())
    np.testing.assert_allclose(loaded.network.score(TOKENS), expected, atol=2e-2)


@built
def test_what_fills_no_blocks_is_served_by_torch(monkeypatch, write_folder, tiny):
    """Eight bits are a wish: rows of 40 weights have no blocks of 32."""
    monkeypatch.setenv("THERMESH_WEIGHTS", "int8")

    model = load(write_folder(tiny(hidden=40)), "tiny")

    assert isinstance(model.network, Network)


def test_weights_stay_as_they_are_stored_otherwise(write_folder, tiny):
    """Nobody asked, so nothing is rounded."""
    assert isinstance(load(write_folder(tiny(**SHAPE)), "tiny").network, Network)
