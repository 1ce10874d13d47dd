"""Every implementation keeps keys and values, and chooses what it reads, as the reference means."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from quantised_network import SMALL, QuantisedTensors, closest_prompts

from services.inference.kernels import PAGE_SIZE, CpuNetwork, Span, Sparsity, StepBatch
from services.inference.kernels.cpu import status
from services.inference.kernels.page_choice import pages_read
from services.inference.kernels.sparsity import FINAL_TOKENS, reading
from services.inference.models.network import Network
from thermesh.errors import InvalidArgument

STATUS = status()
pytestmark = pytest.mark.slow
IMPLEMENTATIONS = [
    "reference",
    *(STATUS.tiers or [pytest.param("cpu", marks=pytest.mark.skip(reason=STATUS.reason))]),
]
CONFIG = dataclasses.replace(SMALL, layers=3, head_size=32)
WIDE = dataclasses.replace(CONFIG, head_size=64)
TENSORS = QuantisedTensors(CONFIG)
TIGHT = Sparsity(dense_below=0, budget_tokens=160, window_tokens=64, dense_layers=1)
WINDOWS = ((64, 0), (0, 128), (200, 64))
ROUTED = Sparsity(dense_below=0, budget_tokens=1 << 30, head_windows=WINDOWS)
PROPERTY = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reference(kv_cache):
    """The network in plain torch with a cache of some kind."""
    network = TENSORS.reference()
    return Network(CONFIG, network._weights, kv_cache=kv_cache)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def implementation(request):
    """The name of an implementation."""
    return request.param


@pytest.fixture(scope="module", params=["f16", "int10", "int8"])
def kv_cache(request):
    """The kind of the cache."""
    return request.param


@pytest.fixture(scope="module")
def network(implementation, kv_cache):
    """One small network for all examples of a property."""
    if implementation == "reference":
        return reference(kv_cache)
    return CpuNetwork(CONFIG, TENSORS, implementation, kv_cache=kv_cache)


@pytest.fixture(autouse=True)
def threads(network):
    """Set torch and the network back to one thread."""
    torch.set_num_threads(1)
    yield
    network.use_threads(1)
    torch.set_num_threads(1)


def tokens(count, seed=1):
    """Random token ids."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 200, count))


def table_for(count, seed=3):
    """A page table in no order."""
    pages = -(-count // PAGE_SIZE)
    return tuple(np.random.default_rng(seed).permutation(pages).tolist())


def step(network, cache, ids, first, *, table, sparsity, prompt=0):
    """Logits after the last of some tokens of one sequence."""
    count = len(ids)
    span = Span(0, count, first + count, table, sparsity=sparsity, prompt_end=prompt)
    return torch.as_tensor(
        network.step(StepBatch(ids, torch.arange(first, first + count), (span,)), cache)
    )[0]


def run(network, ids, sparsity, chunks, prompt=0):
    """Logits after each chunk of a text, in a cache of its own; tokens before `prompt` are
    only read.
    """
    table = table_for(len(ids))
    cache = network.new_cache(len(table))
    logits, first = [], 0
    for count in chunks:
        part = ids[first : first + count]
        own = step(network, cache, part, first, table=table, sparsity=sparsity, prompt=prompt)
        logits.append(own)
        first += count
    return torch.stack(logits)


def deviation(actual, expected):
    """Root mean square of the difference, relative to that of what is expected."""
    return ((actual - expected).square().mean() / expected.square().mean()).sqrt().item()


def same(network, actual, expected):
    """Equal bit for bit; the reference's sums, and so its codes, may differ in the last."""
    if network.kernels_name == "reference":
        assert deviation(actual, expected) < 0.02
    else:
        assert torch.equal(actual, expected)


def test_codes_mean_what_the_reference_means(network, kv_cache):
    """A cache of codes and scales gives the logits that the reference's gives."""
    ids = tokens(150)

    actual = run(network, ids, None, [100, 49, 1])

    assert deviation(actual, run(reference(kv_cache), ids, None, [100, 49, 1])) < 3e-3


@pytest.mark.parametrize("tier", IMPLEMENTATIONS[1:])
@pytest.mark.parametrize("kind", ["int10", "int8"])
@pytest.mark.parametrize("head_size", [16, 48, 64, 128])
def test_codes_are_the_reference_s(tier, kind, head_size):
    """Keys and values are turned as the reference turns them: codes differ by the last bit of
    eight at most.
    """
    config = dataclasses.replace(CONFIG, head_size=head_size)
    tensors, ids = QuantisedTensors(config), tokens(PAGE_SIZE)
    oracle = Network(config, tensors.reference()._weights, kv_cache=kind)
    network = CpuNetwork(config, tensors, tier, kv_cache=kind)
    caches = oracle.new_cache(1), network.new_cache(1)

    for own, cache in zip((oracle, network), caches, strict=True):
        step(own, cache, ids, 0, table=(0,), sparsity=None)

    units = caches[1].content[0, 0, :, 0]
    parts = 4 if kind == "int10" else 1
    for codes, kept, most in (
        (keys_of(units, head_size, kind), caches[0].keys, parts),
        (values_of(units, head_size), caches[0].values, 1),
    ):
        expected = kept[0, 0].permute(1, 0, 2).numpy().astype(int)
        assert np.abs(codes - expected).max() <= most
        assert np.mean(np.abs(codes - expected) < most) > 0.9


def keys_of(units, head_size, kind):
    """The codes of keys of pages as the kernels keep them: [kv_heads, 16, head_size]."""
    numbers = PAGE_SIZE * head_size
    shape = (len(units), head_size // 4, PAGE_SIZE, 4)
    codes = units[:, :numbers].reshape(shape).astype(int) - 128
    if kind == "int10":
        plane = units[:, 2 * numbers + 4 * PAGE_SIZE :]
        bytes_of_four = plane.reshape(-1, head_size // 16, 1, PAGE_SIZE, 4)
        fourths = bytes_of_four >> np.array([6, 4, 2, 0])[:, None, None] & 3
        codes = 4 * codes + fourths.reshape(shape)
    return codes.swapaxes(1, 2).reshape(-1, PAGE_SIZE, head_size)


def values_of(units, head_size):
    """The same of values."""
    numbers = PAGE_SIZE * head_size
    fours = units[:, numbers : 2 * numbers].reshape(-1, head_size // 16, 4, 16, 4).astype(int)
    return fours.transpose(0, 2, 4, 1, 3).reshape(-1, PAGE_SIZE, head_size) - 128


def test_chosen_pages_are_the_reference_s(network, kv_cache):
    """Queries that choose give the reference's logits, and not those of reading all.

    Keys differ in the last bits, so that of nearly equal pages another may be read.
    """
    ids, chunks = tokens(600), [64] * 9 + [24]

    actual = run(network, ids, TIGHT, chunks)

    expected = run(reference(kv_cache), ids, TIGHT, chunks)
    everything = run(network, ids, None, chunks)
    assert deviation(actual[-5:], expected[-5:]) < 0.06
    assert deviation(actual[-5:], everything[-5:]) > 0.1


@pytest.mark.parametrize("sparsity", [ROUTED, dataclasses.replace(TIGHT, head_windows=WINDOWS)])
def test_heads_with_a_window_read_what_the_reference_s_do(network, kv_cache, sparsity):
    """Each head reads its window, the others everything or what they choose."""
    ids, chunks = tokens(900), [64] * 13 + [60, 7, 1]

    actual = run(network, ids, sparsity, chunks)

    expected = run(reference(kv_cache), ids, sparsity, chunks)
    everything = run(network, ids, None, chunks)
    assert deviation(actual[-5:], expected[-5:]) < (0.06 if sparsity is not ROUTED else 1e-2)
    assert deviation(actual[-5:], everything[-5:]) > 0.03


@pytest.mark.parametrize("sparsity", [None, ROUTED])
def test_prompts_attend_as_closely_as_bfloat16(network, kv_cache, sparsity):
    """What is generated behind a prompt of several segments is the reference's."""
    ids, chunks = tokens(700), [333, 300, 64, 2, 1]

    actual = run(network, ids, sparsity, chunks, prompt=698)

    expected = run(reference(kv_cache), ids, sparsity, chunks)
    assert deviation(actual[-2:], expected[-2:]) < 2e-2


@pytest.mark.parametrize("head_size", [64, 96, 256])
def test_prompts_attend_as_closely_in_wider_heads(implementation, kv_cache, head_size):
    """Keys and values of more than one pair of tiles are those of the reference too."""
    config = dataclasses.replace(CONFIG, head_size=head_size)
    tensors = QuantisedTensors(config)
    plain = Network(config, tensors.reference()._weights, kv_cache=kv_cache)
    network = plain
    if implementation != "reference":
        network = CpuNetwork(config, tensors, implementation, kv_cache=kv_cache)
    ids, chunks = tokens(300), [131, 167, 2]

    actual = run(network, ids, None, chunks, prompt=298)

    off = deviation(actual[-1:], run(plain, ids, None, chunks)[-1:])
    # What differs a little may have another code.
    most = closest_prompts(network.kernels_name) * (1 if kv_cache == "f16" else 1.25)
    assert off < most


def test_a_network_tells_whether_prompts_have_bits_of_their_own(implementation, network):
    """Pages of generated tokens begin other prompts only where reading gives the same bits."""
    if implementation == "reference":
        return
    ids, chunks = tokens(200), [198, 1, 1]

    is_same = torch.equal(run(network, ids, None, chunks), run(network, ids, None, chunks, 198))

    assert is_same != network.tells_prompts


@pytest.mark.parametrize("sparsity", [None, ROUTED])
def test_a_prompt_of_several_ranges_may_be_cut_anywhere(sparsity, kv_cache):
    """What few tokens of a long prompt read is divided among threads, and nothing changes."""
    network = reference(kv_cache)
    if STATUS.tiers:
        network = CpuNetwork(CONFIG, TENSORS, STATUS.tiers[0], kv_cache=kv_cache)
    ids = tokens(4300)
    expected = run(network, ids, sparsity, [4298, 1, 1], 4298)[-2:]
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        actual = run(network, ids, sparsity, [2040, 30, 2000, 40, 188, 1, 1], 4298)[-2:]
        same(network, actual, expected)


@PROPERTY
@given(
    length=st.integers(600, 1300),
    cuts=st.lists(st.integers(1, 300), max_size=6),
    windows=st.lists(st.sampled_from([0, 64, 100, 128, 500]), min_size=6, max_size=6),
    sparse_from=st.integers(0, 700),
    count=st.integers(1, 3),
    read=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_windows_of_heads_end_with_the_query(
    network, *, length, cuts, windows, sparse_from, count, read
):
    """Any chunks, windows, prompts and threads give what one token after another gives."""
    prompt = int(read * (length - 2))
    table = tuple(tuple(windows[index : index + 2]) for index in (0, 2, 4))
    sparsity = dataclasses.replace(ROUTED, head_windows=table, first_position=sparse_from)
    ids, chunks, left = tokens(length), [], length - 2
    for cut in cuts:
        chunks.append(min(cut, left - 1))
        left -= chunks[-1]
        if left <= 1:
            break

    expected = run(network, ids, sparsity, [length - 2, 1, 1], prompt)[-2:]
    network.use_threads(count)
    actual = run(network, ids, sparsity, [*chunks, left, 1, 1], prompt)[-2:]

    same(network, actual, expected)


@pytest.mark.parametrize("kind", ["int10", "int8"])
@pytest.mark.parametrize("sparsity", [None, ROUTED, TIGHT])
def test_the_tile_unit_gives_the_bits_of_the_vectors(sparsity, kind):
    """Attention over codes is the same on every tier that has their vectors."""
    tiers = [tier for tier in STATUS.tiers if tier.startswith("avx512")]
    tensors = QuantisedTensors(WIDE)
    networks = [CpuNetwork(WIDE, tensors, tier, kv_cache=kind) for tier in tiers]
    for chunks in ([1, 500, 197, 1, 1], [3, 20, 600, 40, 35, 1, 1]):
        rows = [run(network, tokens(700), sparsity, chunks)[-2:] for network in networks]
        assert all(torch.equal(row, rows[0]) for row in rows)


@PROPERTY
@given(
    length=st.integers(200, 420),
    cuts=st.lists(st.integers(1, 90), max_size=8),
    budget=st.integers(1, 400),
    share=st.sampled_from([0.0, 0.4]),
    window=st.integers(64, 200),
    sparse_from=st.integers(0, 300),
    count=st.integers(1, 3),
    read=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_what_a_row_reads_depends_on_its_own_sequence_only(
    network, *, length, cuts, budget, share, window, sparse_from, count, read
):
    """Any chunks, page tables, budgets, prompts and threads give what one token after another
    gives.
    """
    prompt = int(read * (length - 3))
    sparsity = Sparsity(
        first_position=sparse_from,
        dense_below=0,
        budget_tokens=budget,
        share=share,
        window_tokens=window,
        dense_layers=1,
    )
    ids, chunks, left = tokens(length), [], length - 3
    for cut in cuts:
        chunks.append(min(cut, left - 1))
        left -= chunks[-1]
        if left <= 1:
            break
    chunks.append(left)

    expected = run(network, ids, sparsity, [length - 3, 1, 1, 1], prompt)[-3:]
    network.use_threads(count)
    actual = run(network, ids, sparsity, [*chunks, 1, 1, 1], prompt)[-3:]

    same(network, actual, expected)


def test_a_budget_for_everything_reads_everything(network):
    """A budget of at least the context gives the bits of no choice at all."""
    ids, chunks = tokens(500), [200, 250, 49, 1]

    actual = run(network, ids, dataclasses.replace(TIGHT, budget_tokens=500), chunks)

    assert torch.equal(actual, run(network, ids, None, chunks))


def test_drafts_that_were_refused_leave_no_trace(network):
    """Tokens that are written and written again, as drafts are, change no choice."""
    ids, table = tokens(400), table_for(400)
    chunks = [1] * 30
    caches = [network.new_cache(len(table)) for _ in range(2)]
    for cache in caches:
        step(network, cache, ids[:360], 0, table=table, sparsity=TIGHT)

    rows = [[], []]
    for index in range(len(chunks)):
        first = 360 + index
        drafts = torch.cat((ids[first : first + 1], tokens(FINAL_TOKENS // 8, seed=index)))
        step(network, caches[1], drafts, first, table=table, sparsity=TIGHT)
        for row, cache in zip(rows, caches, strict=True):
            row.append(
                step(network, cache, ids[first : first + 1], first, table=table, sparsity=TIGHT)
            )

    same(network, torch.stack(rows[1]), torch.stack(rows[0]))


def test_sequences_that_choose_and_others_share_a_step(network):
    """Sequences with other sparsities, or none, in one step get what they get alone."""
    sparsities = [TIGHT, None, dataclasses.replace(TIGHT, budget_tokens=256, dense_layers=2)]
    texts = [tokens(count, seed=count) for count in (330, 290, 400)]
    pages = np.random.default_rng(9).permutation(70).tolist()
    tables = [tuple(pages.pop() for _ in range(-(-len(text) // PAGE_SIZE))) for text in texts]
    cache = network.new_cache(70)
    alone, spans = [], []
    for text, table, sparsity in zip(texts, tables, sparsities, strict=True):
        step(network, cache, text[:-1], 0, table=table, sparsity=sparsity)
    for row, (text, table, sparsity) in enumerate(zip(texts, tables, sparsities, strict=True)):
        alone.append(step(network, cache, text[-1:], len(text) - 1, table=table, sparsity=sparsity))
        spans.append(Span(row, 1, len(text), table, sparsity=sparsity))

    last = torch.stack([text[-1] for text in texts])
    positions = torch.tensor([len(text) - 1 for text in texts])
    together = torch.as_tensor(network.step(StepBatch(last, positions, tuple(spans)), cache))

    same(network, together, torch.stack(alone))


def test_codes_take_42_or_48_percent_less_than_sixteen_bits(implementation):
    """Codes and scales of a head of 64 take 132 bytes a token and head, with two more bits of
    keys 148, half precision 256.
    """
    if implementation == "reference":
        cache = Network(CONFIG, TENSORS.reference()._weights, kv_cache="int8").new_cache(4)
        assert cache.bytes_per_token == 2 * 3 * 2 * (32 + 2)
        return
    sizes = [
        CpuNetwork(WIDE, QuantisedTensors(WIDE), implementation, kv_cache=kind)
        .new_cache(4)
        .bytes_per_token
        for kind in ("f16", "int10", "int8")
    ]

    assert sizes == [3 * 2 * 256, 3 * 2 * 148, 3 * 2 * 132]


@given(
    position=st.integers(0, 9000),
    budget=st.integers(1, 4000),
    share=st.floats(0, 1),
    window=st.integers(64, 1000),
    dense_below=st.integers(0, 4000),
)
def test_a_query_reads_its_budget_and_only_final_pages_by_choice(
    position, budget, share, window, dense_below
):
    """A query reads at least its budget, its window, and by choice only pages that are final."""
    sparsity = Sparsity(0, dense_below, budget, share, window)
    found = reading(sparsity, position)
    seen, pages = position + 1, -(-(position + 1) // PAGE_SIZE)
    if found is None:
        return
    read = 1 + found.chosen + pages - found.candidates
    assert position >= dense_below
    assert read < pages
    assert read * PAGE_SIZE >= max(budget, int(share * seen) - 1)
    assert found.candidates * PAGE_SIZE + max(window, FINAL_TOKENS) <= seen


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(100, 400))
def test_the_pages_read_are_those_that_means_attend_to_most(seed, count):
    """No page that is not read has a greater share of attention, but for rounding to codes."""
    random = torch.Generator().manual_seed(seed)
    keys = torch.randn(count, 2, 8, generator=random)
    query = torch.randn(1, 6, 8, generator=random)
    sparsity = Sparsity(0, 0, 96, 0.0, 64, 0)
    found = reading(sparsity, count - 1)
    read = pages_read(sparsity, query, keys, range(count - 1, count), 0)[0]
    if found is None:
        assert read.all()
        return
    for head in range(2):
        shares = torch.zeros(found.candidates - 1)
        for row in query[0, 3 * head : 3 * head + 3]:
            halves = keys[PAGE_SIZE : found.candidates * PAGE_SIZE, head].unflatten(0, (-1, 8))
            attention = (halves.mean(1) @ row / 8**0.5).softmax(0)
            shares += attention.unflatten(0, (-1, 2)).sum(1)
        chosen = read[head, 1 : found.candidates]
        assert chosen.sum() == found.chosen
        assert shares[chosen].min() >= 0.95 * shares[~chosen].max()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_position", -1),
        ("dense_below", 1 << 31),
        ("budget_tokens", 0),
        ("share", 1.5),
        ("window_tokens", FINAL_TOKENS - 1),
        ("dense_layers", -1),
        ("head_windows", ((0, FINAL_TOKENS - 1),)),
    ],
)
def test_a_sparsity_out_of_range_names_its_field(field, value):
    """Values that no query could follow are refused at birth."""
    with pytest.raises(InvalidArgument) as refused:
        Sparsity(**{field: value})

    assert refused.value.field == field
