"""Every implementation of a network computes what the reference means."""

import dataclasses
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from quantised_network import SMALL, QuantisedTensors, closest_prompts
from scored import scored

from services.inference.kernels import PAGE_SIZE, CpuNetwork, Span, StepBatch
from services.inference.kernels.cpu import status
from thermesh.errors import InvalidArgument, MeshError

STATUS = status()
IMPLEMENTATIONS = [
    "reference",
    *(STATUS.tiers or [pytest.param("cpu", marks=pytest.mark.skip(reason=STATUS.reason))]),
]
VARIANTS = {
    "plain": {},
    "untied": {"tied_embeddings": False},
    "tied": {"tied_embeddings": True},
    "one key-value head": {"kv_heads": 1},
    "a key-value head for each query head": {"kv_heads": 4},
    "wide heads": {"head_size": 64},
    "biases": {"qkv_bias": True, "output_bias": True},
    "normed heads": {"qk_norm": True},
    "a vocabulary that fills no tile": {"vocabulary_size": 201},
}
PROPERTY = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def threads(network):
    """Set torch and the network back to one thread."""
    torch.set_num_threads(1)
    yield
    network.use_threads(1)
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def make(request):
    """Return a function that makes a network of some tensors."""

    def make_network(tensors, precision="full"):
        if request.param == "reference":
            return tensors.reference()
        return CpuNetwork(tensors.config, tensors, request.param, precision)

    return make_network


@pytest.fixture(scope="module")
def network(make):
    """One small network for all examples of a property."""
    return make(QuantisedTensors())


def run(network, cache, parts):
    """Step over (token ids, first position, page table) of several sequences."""
    spans, start = [], 0
    for ids, first, table in parts:
        spans.append(Span(start, len(ids), first + len(ids), table))
        start += len(ids)
    token_ids = torch.tensor([token for ids, _, _ in parts for token in ids])
    positions = torch.cat([torch.arange(f, f + len(ids)) for ids, f, _ in parts])
    return torch.as_tensor(network.step(StepBatch(token_ids, positions, tuple(spans)), cache))


def deviation(actual, expected):
    """Root mean square of the difference, relative to that of what is expected."""
    return ((actual - expected).square().mean() / expected.square().mean()).sqrt().item()


def test_logits_after_several_tokens_are_those_of_one_after_another(network):
    """A span's last rows give what steps of one token give, also where a wrong draft
    was written to the cache before; other spans keep their one row."""
    texts = [[7, 3, 11, 5, 2, 19], [4, 4, 8]]
    tables = [(1, 0), (2,)]
    cache, fresh = network.new_cache(3), network.new_cache(3)
    run(network, cache, [(texts[0][:2], 0, tables[0])])
    run(network, cache, [([9, 9, 9, 9], 2, tables[0])])
    spans = (Span(0, 4, 6, tables[0], 3), Span(4, 3, 3, tables[1]))
    token_ids, positions = [*texts[0][2:], *texts[1]], [2, 3, 4, 5, 0, 1, 2]
    batch = StepBatch(torch.tensor(token_ids), torch.tensor(positions), spans)
    logits = torch.as_tensor(network.step(batch, cache))

    run(network, fresh, [(texts[0][:3], 0, tables[0])])
    expected = [run(network, fresh, [(texts[0][i : i + 1], i, tables[0])]) for i in (3, 4, 5)]
    expected.append(run(network, fresh, [(texts[1], 0, tables[1])]))
    assert deviation(logits, torch.cat(expected)) < 1e-5


def test_a_copied_page_is_as_good_as_a_computed_one(network):
    """A sequence goes on from a copy as the one goes on that computed it."""
    cache = network.new_cache(2)
    run(network, cache, [([7, 3, 11, 5], 0, (0,))])
    cache.copy_page(0, 1)
    expected = run(network, cache, [([2], 4, (0,))])
    assert torch.equal(run(network, cache, [([2], 4, (1,))]), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("precision", "tolerance"), [("full", 3e-3), ("mixed", 5e-2)])
def test_logits_are_those_of_the_dequantised_weights(make, variant, precision, tolerance):
    """Every shape of network gives the reference's logits, as closely as its precision says."""
    tensors = QuantisedTensors(dataclasses.replace(SMALL, **VARIANTS[variant]))
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 200, 70))

    logits = scored(make(tensors, precision), ids)

    assert deviation(logits, tensors.reference().score(ids)) < tolerance


@pytest.mark.parametrize("kinds", [("BF16",), ("F16", "Q4_1", "BF16")])
def test_weights_of_sixteen_bits_are_what_they_are(make, kinds):
    """Half precision and bfloat16 lose nothing, alone and beside quantised matrices."""
    tensors = QuantisedTensors(dataclasses.replace(SMALL, vocabulary_size=201), kinds)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 200, 70))

    logits = scored(make(tensors), ids)

    assert deviation(logits, tensors.reference().score(ids)) < 3e-3


@st.composite
def schedules(draw):
    """Lengths of sequences and, for each step, which advance by how many tokens."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=5))
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
    return lengths, steps, draw(st.integers(0, 2**31)), draw(st.integers(1, 3))


@PROPERTY
@given(schedule=schedules())
def test_any_batching_equals_one_by_one(network, schedule):
    """Sequences stepped together, in chunks, mixed with decode, on any pages and any
    number of threads, end as each alone; in C++ bit for bit.
    """
    lengths, steps, seed, threads = schedule
    random = np.random.default_rng(seed)
    texts = [random.integers(0, 200, length).tolist() for length in lengths]
    needed = [-(-length // PAGE_SIZE) for length in lengths]
    pages = random.permutation(sum(needed)).tolist()
    tables = [tuple(pages.pop() for _ in range(count)) for count in needed]
    cache = network.new_cache(sum(needed))
    done, last = [0] * len(texts), {}
    network.use_threads(threads)
    for counts in steps:
        moving = [index for index, count in enumerate(counts) if count]
        parts = [(texts[i][done[i] : done[i] + counts[i]], done[i], tables[i]) for i in moving]
        for row, index in zip(run(network, cache, parts), moving, strict=True):
            last[index] = row
            done[index] += counts[index]

    network.use_threads(1)
    tolerance = 3e-5 if network.kernels_name == "reference" else 0.0
    for index, text in enumerate(texts):
        alone = scored(network, torch.tensor(text))[-1]
        torch.testing.assert_close(last[index], alone, atol=tolerance, rtol=tolerance)


def run_kinds(network, cache, parts):
    """Step over (token ids, first position, page table, length of the prompt)."""
    spans, start = [], 0
    for ids, first, table, prompt in parts:
        spans.append(Span(start, len(ids), first + len(ids), table, prompt_end=prompt))
        start += len(ids)
    token_ids = torch.tensor([token for ids, *_ in parts for token in ids])
    positions = torch.cat([torch.arange(f, f + len(ids)) for ids, f, *_ in parts])
    return torch.as_tensor(network.step(StepBatch(token_ids, positions, tuple(spans)), cache))


@PROPERTY
@given(schedule=schedules(), data=st.data())
def test_the_kind_of_a_token_decides_its_bits(network, schedule, data):
    """Prompts in any chunks, beside other prompts and decoding, computed anew with what
    they generated, end as each alone; in C++ bit for bit.
    """
    lengths, steps, seed, threads = schedule
    random = np.random.default_rng(seed)
    texts = [random.integers(0, 200, length).tolist() for length in lengths]
    prompts = [data.draw(st.integers(0, length)) for length in lengths]
    tables = [tuple(range(4 * i, 4 * i + 4)) for i in range(len(texts))]
    cache = network.new_cache(4 * len(texts))
    done, last = [0] * len(texts), {}
    network.use_threads(threads)
    for counts in steps:
        moving = [index for index, count in enumerate(counts) if count]
        parts = [
            (texts[i][done[i] : done[i] + counts[i]], done[i], tables[i], prompts[i])
            for i in moving
        ]
        for row, index in zip(run_kinds(network, cache, parts), moving, strict=True):
            last[index] = row
            done[index] += counts[index]

    network.use_threads(1)
    tolerance = 3e-5 if network.kernels_name == "reference" else 0.0
    for index, text in enumerate(texts):
        fresh, table = network.new_cache(4), (2, 0, 3, 1)
        for first, end in ((0, prompts[index]), (prompts[index], len(text))):
            if first < end:
                part = (text[first:end], first, table, prompts[index])
                [alone] = run_kinds(network, fresh, [part])
        torch.testing.assert_close(last[index], alone, atol=tolerance, rtol=tolerance)


@PROPERTY
@given(data=st.data(), threads=st.integers(1, 3))
def test_what_is_not_asked_changes_nothing_of_what_is(network, data, threads):
    """Logits after some last tokens of each span are those of its tokens one by one, and so
    is what follows; in C++ bit for bit."""
    counts = data.draw(st.lists(st.integers(1, 24), min_size=1, max_size=4))
    asked = [data.draw(st.integers(1, count)) for count in counts]
    ends = [data.draw(st.integers(0, count)) for count in counts]
    random = np.random.default_rng(sum(counts))
    texts = [random.integers(0, 200, count + 1).tolist() for count in counts]
    tables = [tuple(range(2 * i, 2 * i + 2)) for i in range(len(counts))]
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    parts = zip(starts, counts, tables, asked, ends, strict=True)
    spans = [Span(at, n, n, table, k, prompt_end=end) for at, n, table, k, end in parts]
    token_ids = torch.tensor([token for text in texts for token in text[:-1]])
    positions = torch.cat([torch.arange(count) for count in counts])
    cache, fresh = network.new_cache(2 * len(counts)), network.new_cache(2 * len(counts))

    network.use_threads(threads)
    logits = network.step(StepBatch(token_ids, positions, tuple(spans)), cache)
    after = run(
        network,
        cache,
        [(t[-1:], n, table) for t, n, table in zip(texts, counts, tables, strict=True)],
    )

    network.use_threads(1)
    tolerance = 3e-5 if network.kernels_name == "reference" else 0.0
    found = zip(torch.as_tensor(logits).split(asked), after, strict=True)
    for (rows, last), text, table, end in zip(found, texts, tables, ends, strict=True):
        alone = torch.cat(
            [run_kinds(network, fresh, [([id_], at, table, end)]) for at, id_ in enumerate(text)]
        )
        expected = alone[-1 - len(rows) : -1]
        torch.testing.assert_close(rows, expected, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(last, alone[-1], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prompt_s_logits_are_those_of_the_dequantised_weights(make, variant):
    """Tokens of a prompt are as close to the reference as bfloat16 makes them, or eight bits,
    in every shape.
    """
    tensors = QuantisedTensors(dataclasses.replace(SMALL, **VARIANTS[variant]))
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 200, 70))
    network = make(tensors)
    part = (ids.tolist(), 0, tuple(range(5)), 70)

    [logits] = run_kinds(network, network.new_cache(5), [part])

    off = deviation(logits, tensors.reference().score(ids)[-1])
    assert off < closest_prompts(network.kernels_name)


def test_long_contexts_are_the_same_on_any_number_of_threads(network):
    """A context cut into ranges for several threads gives what one thread gives."""
    ids = np.random.default_rng(4).integers(0, 200, 1300).tolist()
    pages = -(-len(ids) // PAGE_SIZE)
    table = tuple(reversed(range(pages)))
    cache = network.new_cache(pages)
    run(network, cache, [(ids[:-1], 0, table)])

    rows = []
    for count in (1, 2, 3, 1):
        network.use_threads(count)
        rows.append(run(network, cache, [(ids[-1:], len(ids) - 1, table)])[0])

    tolerance = 3e-5 if network.kernels_name == "reference" else 0.0
    for row in rows[1:]:
        torch.testing.assert_close(row, rows[0], atol=tolerance, rtol=tolerance)


def test_a_page_that_was_used_before_leaves_no_trace(network):
    """A sequence on used pages gives the logits it gives on fresh ones."""
    cache = network.new_cache(1)
    run(network, cache, [(list(range(16)), 0, (0,))])

    again = run(network, cache, [([5, 6], 0, (0,))])

    assert torch.equal(again, run(network, network.new_cache(1), [([5, 6], 0, (0,))]))


def test_a_cache_tells_what_a_token_costs(network):
    """Pages and bytes per token are told, whatever the layout."""
    cache = network.new_cache(3)

    width = 2 * SMALL.layers * SMALL.kv_heads * SMALL.head_size
    assert cache.pages == 3
    assert cache.bytes_per_token in (2 * width, 4 * width)


BAD = {
    "a token below 0": lambda b: {"token_ids": torch.tensor([1, -1, 3])},
    "a token beyond the vocabulary": lambda b: {"token_ids": torch.tensor([1, 200, 3])},
    "tokens of another type": lambda b: {"token_ids": b.token_ids.to(torch.int32)},
    "tokens in two dimensions": lambda b: {"token_ids": b.token_ids[None]},
    "fewer positions": lambda b: {"positions": b.positions[:2]},
    "a negative position": lambda b: {"positions": torch.tensor([0, -1, 0])},
    "no tokens": lambda b: {
        "token_ids": torch.empty(0, dtype=torch.int64),
        "positions": torch.empty(0, dtype=torch.int64),
        "spans": (),
    },
    "no spans": lambda b: {"spans": ()},
    "a gap between spans": lambda b: {"spans": (Span(0, 1, 1, (0,)), Span(2, 1, 1, (1,)))},
    "overlapping spans": lambda b: {"spans": (Span(0, 2, 2, (0,)), Span(1, 2, 2, (1,)))},
    "too few rows": lambda b: {"spans": (Span(0, 2, 2, (0,)),)},
    "too many rows": lambda b: {"spans": (Span(0, 4, 4, (0,)),)},
    "an empty span": lambda b: {"spans": (Span(0, 0, 1, (0,)), Span(0, 3, 3, (1,)))},
    "a context shorter than its tokens": lambda b: {"spans": (Span(0, 3, 2, (0,)),)},
    "a page below 0": lambda b: {"spans": (Span(0, 3, 3, (-1,)),)},
    "a page beyond the cache": lambda b: {"spans": (Span(0, 3, 3, (2,)),)},
    "a page table too short": lambda b: {"spans": (Span(0, 3, 17, (0,)),)},
    "no page table": lambda b: {"spans": (Span(0, 3, 3, ()),)},
    "a negative end of a prompt": lambda b: {"spans": (Span(0, 3, 3, (0,), prompt_end=-1),)},
    "a page of 33 bits": lambda b: {"spans": (Span(0, 3, 3, (1 << 33,)),)},
    "a context of 33 bits": lambda b: {"spans": (Span(0, 3, 1 << 33, (0,)),)},
    "the longest context": lambda b: {"spans": (Span(0, 3, (1 << 31) - 1, (0,)),)},
    "more logits than tokens": lambda b: {"spans": (Span(0, 3, 3, (0,), 4),)},
    "no logits": lambda b: {"spans": (Span(0, 3, 3, (0,), 0),)},
    "a count that overflows": lambda b: {"spans": (Span(0, (1 << 31) - 1, 3, (0,)),)},
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_batch_is_refused_and_changes_nothing(problem):
    """The C++ kernels check all they are given before they touch anything."""
    network = _cpu_network()
    cache = network.new_cache(2)
    batch = StepBatch(torch.tensor([1, 2, 3]), torch.arange(3), (Span(0, 3, 3, (0,)),))
    network.step(batch, cache)
    before = cache.content.copy()

    with pytest.raises(InvalidArgument):
        network.step(dataclasses.replace(batch, **BAD[problem](batch)), cache)

    assert np.array_equal(cache.content, before)


def test_a_cache_of_another_network_is_refused():
    """A cache belongs to the sizes it was made for."""
    network = _cpu_network()
    other = CpuNetwork(
        dataclasses.replace(SMALL, layers=1),
        QuantisedTensors(dataclasses.replace(SMALL, layers=1)),
    )
    batch = StepBatch(torch.tensor([1]), torch.tensor([0]), (Span(0, 1, 1, (0,)),))

    with pytest.raises(InvalidArgument, match="cache"):
        network.step(batch, other.new_cache(1))


@PROPERTY
@given(
    token_ids=st.lists(st.integers(-2, 210), max_size=4),
    shift=st.integers(-1, 1),
    spans=st.lists(
        st.builds(
            Span,
            st.integers(-1, 3),
            st.integers(-1, 4),
            st.integers(-1, 40) | st.integers(-(2**31), 2**31 - 1),
            st.lists(st.integers(-1, 3), max_size=3).map(tuple),
        ),
        max_size=3,
    ),
)
def test_whatever_the_batch_the_outcome_is_logits_or_a_refusal(token_ids, shift, spans):
    """No batch reads or writes out of bounds: one of two outcomes, and finite numbers."""
    network = _cpu_network()
    positions = torch.arange(max(len(token_ids) + shift, 0))
    batch = StepBatch(torch.tensor(token_ids, dtype=torch.int64), positions, tuple(spans))
    try:
        logits = torch.as_tensor(network.step(batch, network.new_cache(3)))
    except MeshError:
        return
    assert logits.shape == (len(spans), 200)
    assert logits.isfinite().all()


@pytest.mark.parametrize("prompt", [0, 20])
def test_extreme_activations_stay_finite(make, prompt):
    """Numbers far beyond half precision reach the cache as its ends, not as infinity."""
    tensors = QuantisedTensors(dataclasses.replace(SMALL, qkv_bias=True))
    for index in range(SMALL.layers):
        tensors.vector(f"blk.{index}.attn_v.bias")[:] = 1e6
        tensors.vector(f"blk.{index}.attn_k.bias")[:] = -1e5

    network = make(tensors)
    logits = run_kinds(network, network.new_cache(2), [(list(range(20)), 0, (0, 1), prompt)])

    assert logits.isfinite().all()
    assert not math.isnan(logits.sum().item())


def _cpu_network():
    if not STATUS.available:
        pytest.skip(STATUS.reason)
    return _CACHED.setdefault("small", CpuNetwork(SMALL, QuantisedTensors()))


_CACHED = {}
