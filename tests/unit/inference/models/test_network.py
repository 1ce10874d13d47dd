"""The network against an independent dense forward pass, and against itself in batches."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from services.inference.kernels import PAGE_SIZE, Span, StepBatch
from services.inference.models import ModelConfig, load
from services.inference.models.network import Network
from services.inference.models.weights import Weights

VARIANTS = {
    "plain": {},
    "untied": {"tied": False},
    "one key-value head": {"kv_heads": 1},
    "head size apart from hidden size": {"head_size": 16},
    "biases": {"qkv_bias": True, "output_bias": True},
    "normed heads": {"qk_norm": True},
    "one layer": {"layers": 1},
}


def run(network, cache, parts):
    """Step over (token ids, first position, page table) of several sequences."""
    spans, start = [], 0
    for ids, first, table in parts:
        spans.append(Span(start, len(ids), first + len(ids), table))
        start += len(ids)
    token_ids = torch.tensor([token for ids, _, _ in parts for token in ids])
    positions = torch.cat([torch.arange(f, f + len(ids)) for ids, f, _ in parts])
    return torch.as_tensor(network.step(StepBatch(token_ids, positions, tuple(spans)), cache))


@pytest.mark.parametrize("variant", VARIANTS)
def test_score_equals_a_dense_forward_pass(write_gguf, tiny, dense_logits, variant):
    """Every shape of network gives the logits of the definition, from its GGUF file."""
    model = tiny(**VARIANTS[variant])
    head_size = {"llama.attention.key_length": model.head_size}
    network = load(write_gguf(model, metadata=head_size), "tiny").network
    ids = np.random.default_rng(1).integers(0, len(model.tokens), 40)

    logits = network.score(torch.from_numpy(ids))

    np.testing.assert_allclose(logits.numpy(), dense_logits(model, ids), atol=3e-5, rtol=3e-5)


def test_score_is_the_same_in_chunks(write_gguf, tiny, dense_logits, monkeypatch):
    """A text longer than one chunk scores as in one piece."""
    monkeypatch.setattr("services.inference.models.network._SCORE_CHUNK", 16)
    model = tiny()
    network = load(write_gguf(model), "tiny").network
    ids = np.random.default_rng(2).integers(0, len(model.tokens), 45)

    logits = network.score(torch.from_numpy(ids))

    np.testing.assert_allclose(logits.numpy(), dense_logits(model, ids), atol=3e-5, rtol=3e-5)


@st.composite
def schedules(draw):
    """Lengths of sequences and, for each step, which advance by how many tokens."""
    lengths = draw(st.lists(st.integers(1, 50), min_size=1, max_size=4))
    steps, done = [], [0] * len(lengths)
    while any(d < length for d, length in zip(done, lengths, strict=True)):
        counts = [
            min(draw(st.sampled_from([0, 1, 1, 7, 30])), length - d)
            for d, length in zip(done, lengths, strict=True)
        ]
        if not any(counts):
            counts = [length - d for d, length in zip(done, lengths, strict=True)]
        steps.append(counts)
        done = [d + count for d, count in zip(done, counts, strict=True)]
    return lengths, steps, draw(st.integers(0, 2**31))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(schedule=schedules())
def test_any_batching_equals_one_by_one(tiny_network, schedule):
    """Sequences stepped together, in chunks, mixed with decode, end as each alone."""
    lengths, steps, seed = schedule
    random = np.random.default_rng(seed)
    texts = [random.integers(0, 200, length).tolist() for length in lengths]
    needed = [-(-length // PAGE_SIZE) for length in lengths]
    pages = random.permutation(sum(needed)).tolist()
    tables = [tuple(pages.pop() for _ in range(count)) for count in needed]
    cache = tiny_network.new_cache(sum(needed))
    done, last = [0] * len(texts), {}
    for counts in steps:
        moving = [index for index, count in enumerate(counts) if count]
        parts = [(texts[i][done[i] : done[i] + counts[i]], done[i], tables[i]) for i in moving]
        for row, index in zip(run(tiny_network, cache, parts), moving, strict=True):
            last[index] = row
            done[index] += counts[index]

    for index, text in enumerate(texts):
        alone = tiny_network.score(torch.tensor(text))[-1]
        torch.testing.assert_close(last[index], alone, atol=3e-5, rtol=3e-5)


@pytest.fixture(scope="module")
def tiny_network(tmp_path_factory):
    """One small network for all examples of a property."""
    config = ModelConfig("llama", 128, 200, 2, 32, 4, 2, 8, 64, 10_000.0, 1e-5)
    weights = Weights.allocate(config)
    random = torch.Generator().manual_seed(3)
    for view in weights.destinations(config).values():
        view.normal_(std=0.3, generator=random)
    return Network(config, weights)


def test_step_gives_float32_logits_in_the_order_of_the_spans(tiny_network):
    """One row of the vocabulary's width for each span."""
    cache = tiny_network.new_cache(2)

    logits = run(tiny_network, cache, [([1, 2, 3], 0, (1,)), ([9], 0, (0,))])

    assert logits.shape == (2, 200)
    assert logits.dtype == torch.float32
    alone = tiny_network.score(torch.tensor([9]))[-1]
    torch.testing.assert_close(logits[1], alone, atol=1e-5, rtol=1e-5)


def test_the_network_names_its_kernels(tiny_network):
    """DescribeModel tells which kernels run."""
    assert tiny_network.kernels_name == "reference"


def test_a_page_that_was_used_before_leaves_no_trace(tiny_network):
    """A sequence on used pages gives the logits it gives on fresh ones."""
    cache = tiny_network.new_cache(1)
    run(tiny_network, cache, [(list(range(16)), 0, (0,))])

    again = run(tiny_network, cache, [([5, 6], 0, (0,))])

    fresh = run(tiny_network, tiny_network.new_cache(1), [([5, 6], 0, (0,))])
    assert torch.equal(again, fresh)
