"""Quantised GGUF files on the C++ kernels and in plain torch."""

import contextlib
import random

import gguf
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from scored import scored

from services.inference.kernels.cpu import status
from services.inference.models import load
from services.inference.models.gguf_file import GgufFile
from thermesh.errors import InvalidArgument, MeshError

STATUS = status()
pytestmark = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)

KINDS = {
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
    "Q4_1": gguf.GGMLQuantizationType.Q4_1,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
}
SIZES = {"hidden": 64, "head_size": 16, "heads": 4, "kv_heads": 2, "intermediate": 96}
KEYS = {"llama.attention.key_length": 16, "qwen3.attention.key_length": 16}

VARIANTS = {
    "tied": ("llama", {}),
    "untied": ("llama", {"tied": False}),
    "normed heads": ("qwen3", {"qk_norm": True}),
}


@pytest.fixture
def both(monkeypatch):
    """Return a function that loads a file for the C++ kernels and for torch."""

    def load_both(path):
        monkeypatch.setenv("THERMESH_KERNELS", "cpu")
        fast = load(path, "tiny")
        monkeypatch.setenv("THERMESH_KERNELS", "reference")
        return fast, load(path, "tiny")

    return load_both


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_quantised_file_means_the_same_in_both(both, write_gguf, tiny, kind, variant):
    """The blocks of a file, rotary order included, give the logits of its numbers."""
    architecture, changes = VARIANTS[variant]
    model = tiny(**SIZES, **changes)
    fast, plain = both(
        write_gguf(model, architecture=architecture, metadata=KEYS, kind=KINDS[kind])
    )
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, len(model.tokens), 60))

    logits, expected = (
        scored(fast.network, ids),
        scored(plain.network, ids),
    )

    assert fast.network.kernels_name == f"cpu-{STATUS.tiers[0]}"
    assert plain.network.kernels_name == "reference"
    assert (logits - expected).square().mean().sqrt() < 3e-3 * expected.square().mean().sqrt()


def test_frequency_factors_reach_the_kernels(both, write_gguf, tiny):
    """`rope_freqs.weight` stretches positions in C++ as in torch."""
    factors = np.linspace(1, 8, 8).astype("f4")
    path = write_gguf(
        tiny(**SIZES), metadata=KEYS, kind=KINDS["Q8_0"], tensors={"rope_freqs.weight": factors}
    )
    fast, plain = both(path)
    ids = torch.arange(100)

    logits, expected = (
        scored(fast.network, ids),
        scored(plain.network, ids),
    )

    assert (logits - expected).square().mean().sqrt() < 3e-3 * expected.square().mean().sqrt()


def test_weights_that_are_no_blocks_are_left_to_torch(monkeypatch, write_gguf, tiny):
    """A file of float32 loads as ever."""
    monkeypatch.delenv("THERMESH_KERNELS", raising=False)

    model = load(write_gguf(tiny(**SIZES), metadata=KEYS), "tiny")

    assert model.network.kernels_name == "reference"


def test_a_scale_that_is_not_finite_is_the_file_s_fault(monkeypatch, write_gguf, tiny):
    """A broken block is refused with the name of its tensor, whatever kernels are there."""
    monkeypatch.delenv("THERMESH_KERNELS", raising=False)
    path = write_gguf(tiny(**SIZES), metadata=KEYS, kind=KINDS["Q8_0"])
    tensor = gguf.GGUFReader(path).get_tensor(0)
    content = bytearray(path.read_bytes())
    offset = int(tensor.data_offset)
    content[offset : offset + 2] = b"\x00\x7c"
    path.write_bytes(content)

    with pytest.raises(InvalidArgument, match=r"not finite"):
        load(path, "tiny")


@pytest.fixture
def quantised_file(monkeypatch, write_gguf, tiny):
    """A sound file of blocks to damage, for the C++ kernels where it fits them."""
    monkeypatch.setenv("THERMESH_KERNELS", "auto")
    return write_gguf(tiny(**SIZES), metadata=KEYS, kind=KINDS["Q4_1"])


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), flips=st.integers(1, 6), in_header=st.booleans())
def test_changed_bytes_of_a_quantised_file_load_or_are_refused(
    quantised_file, seed, flips, in_header
):
    """Hostile metadata, shapes and blocks reach the kernels checked, or not at all."""
    generator = random.Random(seed)
    content = bytearray(quantised_file.read_bytes())
    data = min(tensor.offset for tensor in GgufFile(quantised_file).tensors.values())
    for _ in range(flips):
        place = generator.randrange(data if in_header else len(content))
        content[place] = generator.choice([0, 1, 2, 4, 8, 9, 32, 128, 255])
    path = quantised_file.with_name("flipped.gguf")
    path.write_bytes(content)
    ids = torch.arange(20) % 8

    with contextlib.suppress(MeshError):
        model = load(path, "flipped")
        assert model.network.score(ids).shape == (20, model.config.vocabulary_size)
