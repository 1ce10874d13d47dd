"""The reference kernels against definitions written out naively."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from services.inference.kernels import PAGE_SIZE, Span, StepBatch, reference
from services.inference.kernels.operations import PagedCache, select
from thermesh.errors import InvalidArgument

KERNELS = select()


@st.composite
def scenarios(draw):
    """Sequences with a past and new tokens, on pages handed out in random order."""
    heads_per_kv, kv_heads = draw(st.sampled_from([(1, 1), (3, 1), (2, 2), (3, 3)]))
    sequences = draw(
        st.lists(
            st.tuples(st.integers(0, 70), st.one_of(st.just(1), st.integers(1, 40))),
            min_size=1,
            max_size=5,
        )
    )
    needed = [-(-(past + count) // PAGE_SIZE) for past, count in sequences]
    spare = draw(st.integers(0, 3))
    pages = draw(st.permutations(range(sum(needed) + spare)))
    head_size = draw(st.sampled_from([2, 8]))
    return heads_per_kv, kv_heads, head_size, sequences, pages, draw(st.integers(0, 2**31))


def dense_attention(queries, keys, values, past):
    """Attend row by row and head by head in float64: [count, heads, head_size]."""
    per_head = queries.shape[1] // keys.shape[1]
    output = torch.zeros(queries.shape, dtype=torch.float64)
    for row in range(queries.shape[0]):
        for head in range(queries.shape[1]):
            known = slice(0, past + row + 1)
            scores = keys[known, head // per_head].double() @ queries[row, head].double()
            weights = torch.softmax(scores / math.sqrt(queries.shape[2]), dim=0)
            output[row, head] = weights @ values[known, head // per_head].double()
    return output


@settings(max_examples=40, deadline=None)
@given(scenario=scenarios())
def test_paged_attention_is_dense_attention(scenario):
    """Mixed prefill and decode over any page tables equals dense attention of each sequence."""
    heads_per_kv, kv_heads, head_size, sequences, pages, seed = scenario
    random = torch.Generator().manual_seed(seed)
    heads = heads_per_kv * kv_heads
    cache = PagedCache(1, len(pages), kv_heads, head_size)
    spans, new, expected, start, pages = [], [], [], 0, list(pages)
    for past, count in sequences:
        total = past + count
        table = tuple(pages.pop() for _ in range(-(-total // PAGE_SIZE)))
        keys = torch.randn(total, kv_heads, head_size, generator=random)
        values = torch.randn(total, kv_heads, head_size, generator=random)
        queries = torch.randn(count, heads, head_size, generator=random)
        for index in range(past):
            slot = (0, table[index // PAGE_SIZE], index % PAGE_SIZE)
            cache.keys[slot], cache.values[slot] = keys[index], values[index]
        spans.append(Span(start, count, total, table))
        new.append((queries, keys[past:], values[past:]))
        expected.append(dense_attention(queries, keys, values, past))
        start += count
    batch = StepBatch(torch.zeros(start).long(), torch.zeros(start).long(), tuple(spans))
    step = KERNELS.begin(batch, cache, torch.ones(head_size // 2), heads)

    queries, keys, values = (torch.cat(parts) for parts in zip(*new, strict=True))
    attended = KERNELS.paged_attention(queries, keys, values, cache, 0, step=step)

    torch.testing.assert_close(
        attended.double(), torch.cat(expected).flatten(1), atol=2e-5, rtol=2e-5
    )


def test_decoding_sequences_of_very_different_length_share_a_step():
    """Sequences from 1 to over 1,000 tokens attend right in one step, padding unseen."""
    torch.manual_seed(1)
    lengths = [1, 17, 300, 1100, 40]
    cache = PagedCache(1, sum(-(-length // PAGE_SIZE) for length in lengths), 1, 4)
    cache.keys.normal_()
    cache.values.normal_()
    spans, free = [], 0
    for row, length in enumerate(lengths):
        count = -(-length // PAGE_SIZE)
        spans.append(Span(row, 1, length, tuple(range(free, free + count))))
        free += count
    batch = StepBatch(torch.zeros(5).long(), torch.zeros(5).long(), tuple(spans))
    step = KERNELS.begin(batch, cache, torch.ones(2), 2)
    queries, keys, values = torch.randn(5, 2, 4), torch.randn(5, 1, 4), torch.randn(5, 1, 4)

    attended = KERNELS.paged_attention(queries, keys, values, cache, 0, step=step)

    for row, span in enumerate(spans):
        known = torch.tensor(span.page_table)
        dense = dense_attention(
            queries[row : row + 1],
            cache.keys[0][known].flatten(0, 1)[: span.context_length],
            cache.values[0][known].flatten(0, 1)[: span.context_length],
            span.context_length - 1,
        )
        torch.testing.assert_close(attended[row].double(), dense.flatten(), atol=1e-5, rtol=1e-5)


def test_step_writes_only_the_slots_of_its_new_tokens():
    """Writing keys and values leaves every other slot of the cache alone."""
    cache = PagedCache(2, 4, 1, 2)
    spans = (Span(0, 2, 17, (3, 1)), Span(2, 1, 5, (0,)))
    batch = StepBatch(torch.zeros(3).long(), torch.zeros(3).long(), spans)
    step = KERNELS.begin(batch, cache, torch.ones(1), 1)

    ones = torch.ones(3, 1, 2)
    KERNELS.paged_attention(ones, ones, ones, cache, 1, step=step)

    written = {tuple(index) for index in cache.keys.nonzero()[:, :3].tolist()}
    assert written == {(1, 3, 15), (1, 1, 0), (1, 0, 4)}


@given(position=st.integers(0, 8191), other=st.integers(0, 8191), seed=st.integers(0, 2**31))
def test_rotary_keeps_length_and_depends_on_distance_only(position, other, seed):
    """Rotation keeps norms, and products depend on the distance of the positions only."""
    random = torch.Generator().manual_seed(seed)
    vectors = torch.randn(2, 1, 8, generator=random)
    frequencies = 1e-4 ** (torch.arange(4) / 4)
    low = min(position, other)

    def rotated(first, second):
        positions = torch.tensor([first, second])
        spans = (Span(0, 2, 2, (0,)),)
        batch = StepBatch(torch.zeros(2).long(), positions, spans)
        step = KERNELS.begin(batch, PagedCache(1, 1, 1, 8), frequencies, 1)
        return KERNELS.rotary(vectors, step)

    here, shifted = rotated(position, other), rotated(position - low, other - low)

    torch.testing.assert_close(here.norm(dim=-1), vectors.norm(dim=-1), atol=1e-5, rtol=1e-5)
    product = (here[0] * here[1]).sum()
    torch.testing.assert_close(product, (shifted[0] * shifted[1]).sum(), atol=2e-2, rtol=0)


def test_rotary_turns_each_pair_by_its_own_angle():
    """Member i turns with member i + half by position times the frequency of i."""
    spans = (Span(0, 1, 3, (0,)),)
    batch = StepBatch(torch.zeros(1).long(), torch.tensor([2]), spans)
    step = KERNELS.begin(batch, PagedCache(1, 1, 1, 4), torch.tensor([1.0, 0.25]), 1)

    rotated = KERNELS.rotary(torch.tensor([[[1.0, 1.0, 0.0, 0.0]]]), step)

    expected = [math.cos(2), math.cos(0.5), math.sin(2), math.sin(0.5)]
    torch.testing.assert_close(rotated, torch.tensor([[expected]]))


@given(
    head_size=st.sampled_from([2, 6, 16, 48, 64]),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**31),
)
def test_turned_vectors_have_the_same_products_and_no_outliers(head_size, scale, seed):
    """Products stay, turning twice is nothing, and one channel is shared by all of its part."""
    random = torch.Generator().manual_seed(seed)
    vectors = scale * torch.randn(5, 2, head_size, generator=random)
    outlier = torch.zeros(head_size)
    outlier[seed % head_size] = scale

    turned = reference.hadamard(vectors)

    product = torch.einsum("thc,shc->hts", turned, turned)
    expected = torch.einsum("thc,shc->hts", vectors, vectors)
    torch.testing.assert_close(product, expected, atol=1e-4 * scale**2, rtol=1e-4)
    torch.testing.assert_close(reference.hadamard(turned), vectors, atol=1e-4 * scale, rtol=1e-4)
    part = head_size & -head_size
    largest = reference.hadamard(outlier).abs().max().item()
    assert largest == pytest.approx(scale / math.sqrt(part), rel=1e-5)


def test_rms_norm_divides_by_the_root_of_the_mean_square():
    """The norm is taken over the last dimension, epsilon inside the root."""
    hidden, weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([1.0, 2.0])

    normed = KERNELS.rms_norm(hidden, weight, 0.5)

    root = math.sqrt(13.0)
    torch.testing.assert_close(normed, torch.tensor([[3 / root, 8 / root], [0.0, 0.0]]))


def test_silu_mul_gates_the_second_half_by_the_first():
    """Of [gate | up] comes silu(gate) * up."""
    gate_up = torch.tensor([[1.0, -2.0, 3.0, 4.0]])

    gated = KERNELS.silu_mul(gate_up)

    expected = [3 / (1 + math.exp(-1)), -8 / (1 + math.exp(2))]
    torch.testing.assert_close(gated, torch.tensor([expected]))


def test_linear_adds_a_bias_where_there_is_one():
    """Weights are [input, output]."""
    hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])

    assert KERNELS.linear(hidden, weight, None).tolist() == [[1.0, 2.0, 3.0]]
    assert KERNELS.linear(hidden, weight, torch.ones(3)).tolist() == [[2.0, 3.0, 4.0]]


def test_unknown_kernels_are_refused_by_name():
    """The error names the value and what is allowed."""
    with pytest.raises(InvalidArgument, match="one of reference, got 'cuda'"):
        select("cuda")


def test_cache_states_its_bytes_per_token():
    """Keys and values of all layers count, four bytes a number."""
    assert PagedCache(30, 2, 3, 64).bytes_per_token == 46_080
