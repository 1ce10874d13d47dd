"""The network for GPUs computes what the reference means, in Triton's interpreter.

With the reference's operations the same network runs fast enough to ask it
everything; with the kernels, a few steps.
"""

import dataclasses
import importlib

import pytest
import torch
from quantised_network import SMALL, QuantisedTensors
from torch.overrides import TorchFunctionMode

from services.inference.config import KernelsConfig
from services.inference.decoding.decoder import Decoder
from services.inference.kernels import Span, Sparsity, StepBatch, on_device
from services.inference.kernels.triton import reference, status
from services.inference.kernels.triton.graphs import shape_of
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.weights import Share, from_tensors, from_weights
from services.inference.limits import Limits
from services.inference.request import Context, Request
from services.inference.sampling.settings import Fixed, Guard, Sampling
from services.inference.sequences.sequence import Sequence
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.testing import FakeClock

STATUS = status()
needs_triton = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
CPU = torch.device("cpu")
VARIANTS = {
    "untied": {},
    "tied": {"tied_embeddings": True},
    "one key-value head": {"kv_heads": 1},
    "wide heads": {"head_size": 64},
    "biases": {"qkv_bias": True, "output_bias": True},
    "normed heads": {"qk_norm": True},
}
BAD = {
    "a token beyond the vocabulary": lambda b: {"token_ids": torch.tensor([1, 200, 3])},
    "tokens of another type": lambda b: {"token_ids": b.token_ids.to(torch.int32)},
    "fewer positions": lambda b: {"positions": b.positions[:2]},
    "positions of elsewhere": lambda b: {"positions": b.positions + 1},
    "no spans": lambda b: {"spans": ()},
    "overlapping spans": lambda b: {"spans": (Span(0, 2, 2, (0,)), Span(1, 2, 2, (1,)))},
    "too many rows": lambda b: {"spans": (Span(0, 4, 4, (0,)),)},
    "an empty span": lambda b: {"spans": (Span(0, 0, 1, (0,)), Span(0, 3, 3, (1,)))},
    "a page beyond the cache": lambda b: {"spans": (Span(0, 3, 3, (2,)),)},
    "a page table too short": lambda b: {"spans": (Span(0, 3, 17, (0,)),)},
}


def make(tensors, operations=reference, kv_dtype=torch.float16):
    """The network of some tensors."""
    weights = from_tensors(tensors.config, tensors, CPU, Share())
    return GpuNetwork(tensors.config, weights, operations, CPU, kv_dtype=kv_dtype)


@pytest.fixture(scope="module")
def operations():
    """The fast paths, imported where Triton is there."""
    return importlib.import_module("services.inference.kernels.triton.operations")


def deviation(actual, expected):
    """Root mean square of the difference, relative to that of what is expected."""
    return ((actual - expected).square().mean() / expected.square().mean()).sqrt().item()


def tokens(count, seed=1):
    """Some token ids."""
    return torch.randint(0, 200, (count,), generator=torch.Generator().manual_seed(seed))


def one(ids, first, table):
    """A step of one sequence."""
    positions = torch.arange(first, first + len(ids))
    return StepBatch(ids, positions, (Span(0, len(ids), first + len(ids), table),))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_dequantised_weights(variant):
    """Every shape of network gives the reference's logits, as closely as half precision keys do."""
    tensors = QuantisedTensors(dataclasses.replace(SMALL, **VARIANTS[variant]))
    ids = tokens(70)

    logits = make(tensors).score(ids)

    assert deviation(logits, tensors.reference().score(ids)) < 2e-3


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize(
    ("variant", "kv_dtype", "tolerance"),
    [
        ("untied", torch.float16, 2e-3),
        ("normed heads", torch.float16, 2e-3),
        ("biases", torch.int8, 3e-2),
    ],
)
def test_the_kernels_give_the_reference_s_logits(operations, variant, kv_dtype, tolerance):
    """Prompts, decoding and both together agree with the network in plain torch."""
    tensors = QuantisedTensors(dataclasses.replace(SMALL, **VARIANTS[variant]))
    first, second = tokens(20), tokens(6, seed=2)
    network, expected = make(tensors, operations, kv_dtype), tensors.reference()
    cache = network.new_cache(4)
    network.step(one(first[:19], 0, (3, 1)), cache)
    both = StepBatch(
        torch.cat((first[19:], second)),
        torch.tensor([19, *range(6)]),
        (Span(0, 1, 20, (3, 1)), Span(1, 6, 6, (0,))),
    )

    logits = network.step(both, cache)

    for row, text in enumerate((first, second)):
        assert deviation(logits[row], expected.score(text)[-1]) < tolerance


CHOOSING = Sparsity(dense_below=0, budget_tokens=112, window_tokens=64, dense_layers=1)


def chosen(network, ids, sparsity, chunks, beside=None):
    """Logits after each chunk of a text, with another text beside it that reads everything."""
    table = tuple(torch.randperm(-(-len(ids) // 16), generator=torch.manual_seed(3)).tolist())
    cache, found, first = network.new_cache(len(table) + 1), [], 0
    for count in chunks:
        part, end = ids[first : first + count], first + count
        spans = [Span(0, count, end, table, sparsity=sparsity)]
        batch = StepBatch(part, torch.arange(first, end), tuple(spans))
        if beside is not None:
            spans.append(Span(count, 1, 1, (len(table),)))
            positions = torch.cat((batch.positions, torch.tensor([0])))
            batch = StepBatch(torch.cat((part, beside[:1])), positions, tuple(spans))
        found.append(network.step(batch, cache))
        first = end
    return found


@pytest.mark.slow
def test_chosen_pages_are_the_oracle_s():
    """Prompts and decoding read what the network in plain torch chooses, whoever is beside them."""
    config = dataclasses.replace(SMALL, layers=3, head_size=32)
    tensors, ids = QuantisedTensors(config), tokens(280)
    chunks, other = [128, 128, 11, 1, 5, *[1] * 7], tokens(1, seed=5)
    network = make(tensors)

    actual = torch.stack([one[0] for one in chosen(network, ids, CHOOSING, chunks)])
    together = chosen(network, ids, CHOOSING, [*chunks[:2], 22, 2], beside=other)

    plain = tensors.reference()
    expected = torch.stack([one[0] for one in chosen(plain, ids, CHOOSING, chunks)])
    everything = torch.stack([one[0] for one in chosen(plain, ids, None, chunks)])
    # Keys are half precision here: of nearly equal pages another may be read.
    assert deviation(actual[-9:], expected[-9:]) < 0.06
    assert deviation(actual[-9:], everything[-9:]) > 0.1
    assert deviation(together[-1][0], actual[-1]) < 1e-3
    assert deviation(together[-1][1], plain.score(other)[0]) < 2e-3


@pytest.mark.slow
@needs_triton
def test_the_kernels_choose_the_pages_of_their_reference(operations):
    """The same pages in a prompt and while decoding, with keys of eight bits."""
    ids, chunks = tokens(163), [158, 3, 1, 1]
    networks = [make(QuantisedTensors(), one, torch.int8) for one in (operations, reference)]
    sparsity = dataclasses.replace(CHOOSING, budget_tokens=96, first_position=159)

    found = [torch.cat(chosen(one, ids, sparsity, chunks)) for one in networks]

    assert deviation(*found) < 2e-3
    assert deviation(found[0][-1], torch.cat(chosen(networks[1], ids, None, chunks))[-1]) > 0.02


class FromTheDevice(TorchFunctionMode):
    """Refuses tensors that a step would make on the host: no graph can hold their copy."""

    MAKERS = (torch.full, torch.zeros, torch.ones, torch.empty, torch.arange, torch.tensor)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """See `TorchFunctionMode`."""
        kwargs = kwargs or {}
        assert function not in self.MAKERS or "device" in kwargs, function.__name__
        return function(*args, **kwargs)


@pytest.mark.slow
@needs_triton
def test_what_a_graph_captures_makes_nothing_on_the_host(operations):
    """Decoding that chooses and decoding that reads everything: all is there before a launch."""
    network, bodies = make(QuantisedTensors(), operations), []

    def run(_key, body):
        bodies.append(body)
        with FromTheDevice():
            return body()

    network._graphs.run = run
    sparsity = dataclasses.replace(CHOOSING, budget_tokens=96, first_position=159)
    chosen(network, tokens(161), sparsity, [159, 1, 1])
    chosen(network, tokens(17), None, [16, 1])

    assert len(bodies) == 3


def test_the_largest_step_is_one_step_of_all_its_tokens():
    """What memory is measured by when the engine starts: a prompt as long as a step may be."""
    network = make(QuantisedTensors())
    expected = network.score(torch.zeros(300, dtype=torch.int64))[-1:]

    assert deviation(network.largest_step(300), expected) < 2e-3


def test_heads_with_windows_are_refused():
    """A device has no windows of heads: who asks for them is told, and nothing else is read."""
    sparsity = Sparsity(dense_below=0, head_windows=((64, 0),) * SMALL.layers)
    span = Span(0, 1, 1, (0,), sparsity=sparsity)
    network = make(QuantisedTensors())

    with pytest.raises(InvalidArgument, match="windows"):
        network.step(StepBatch(torch.tensor([1]), torch.tensor([0]), (span,)), network.new_cache(1))


def test_float_weights_serve_too():
    """A network without quantised weights computes with them as they are."""
    tensors = QuantisedTensors()
    plain = tensors.reference()
    weights = from_weights(SMALL, plain._weights, CPU, Share(), torch.float32)
    network = GpuNetwork(SMALL, weights, reference, CPU, kv_dtype=torch.float16)

    assert deviation(network.score(tokens(20)), plain.score(tokens(20))) < 2e-3


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_batch_is_refused_and_changes_nothing(problem):
    """A batch is checked before anything is written."""
    network = make(QuantisedTensors())
    cache = network.new_cache(2)
    batch = one(torch.tensor([1, 2, 3]), 0, (0,))
    network.step(batch, cache)
    before = cache.layers[0].keys.clone()

    with pytest.raises(InvalidArgument):
        network.step(dataclasses.replace(batch, **BAD[problem](batch)), cache)

    assert torch.equal(cache.layers[0].keys, before)


@pytest.mark.parametrize(
    ("sequences", "pages", "expected"),
    [(1, 1, (1, 32)), (3, 33, (4, 128)), (128, 512, (128, 512)), (200, 600, (200, 2048))],
)
def test_a_batch_takes_the_next_larger_shape(sequences, pages, expected):
    """Few shapes are captured, and every batch has one."""
    shape = shape_of(sequences, pages)

    assert (shape.batch, shape.width) == expected


def decode(network, prompts, count, cancelled=()):
    """Decode `count` tokens of each prompt with the engine's own decoder."""
    limits = Limits(looks_ahead=True, prefix_cache=False)
    decoder = Decoder(network, _Tokenizer(), limits, 16, FakeClock())
    sampling = Sampling(Fixed(0.8), Guard(min_p=0.05))
    texts = {}
    for index, prompt in enumerate(prompts):
        context = Context(request_id=str(index))
        request = Request(context, tuple(prompt), sampling, seed=index, max_tokens=count)
        reader = _Reader()
        texts[reader] = []
        decoder.submit(Sequence(request, reader, 200, count, 0.0))
    for step in range(60):
        for reader, event in decoder.step().events:
            if hasattr(event, "token_id"):
                texts[reader].append(event.token_id)
        if step in cancelled:
            decoder.cancel(next(iter(texts)))
    return list(texts.values())


class _Reader:
    taken = 0
    is_cancelled = False


class _Tokenizer:
    end_ids = frozenset()

    def token_bytes(self, token_id):
        """Any byte will do."""
        return b"x"


@pytest.fixture
def drawing(monkeypatch, operations):
    """A network on the reference's operations that draws with the kernel."""
    monkeypatch.setattr(reference, "sample", operations.sample, raising=False)
    return make(QuantisedTensors())


@needs_triton
def test_steps_launched_ahead_change_no_token(drawing, monkeypatch):
    """The engine gets the same tokens as without, and most steps were there when asked for."""
    prompts = [tokens(5, seed).tolist() for seed in (3, 4)]

    ahead = decode(drawing, prompts, 20)

    monkeypatch.setattr(drawing._ahead, "keep", lambda *_: None)
    assert ahead == decode(drawing, prompts, 20)
    assert [len(text) for text in ahead] == [20, 20]
    assert drawing._ahead.used_count >= 15


@needs_triton
def test_a_step_launched_for_a_sequence_that_left_harms_nobody(drawing):
    """A client that goes away between two steps leaves the others' tokens as they were."""
    prompts = [tokens(5, seed).tolist() for seed in (3, 4)]

    alone = decode(drawing, prompts[1:], 1)
    together = decode(drawing, prompts, 20, cancelled=(4,))

    assert len(together[0]) < 20
    assert len(together[1]) == 20
    assert len(alone[0]) == 1


@needs_triton
def test_the_interpreter_serves_only_who_insists():
    """THERMESH_DEVICE=cuda takes what there is, auto never takes the interpreter."""
    tensors = QuantisedTensors()

    assert on_device(SMALL, tensors, KernelsConfig()) is None
    assert on_device(SMALL, tensors, KernelsConfig(device="cpu")) is None
    network = on_device(SMALL, tensors, KernelsConfig(device="cuda", kv_cache="int8"))
    assert network.kernels_name == "triton-cpu"
    assert network.new_cache(1).layers[0].is_int8


def test_without_a_gpu_cuda_is_refused(monkeypatch):
    """Who insists on a GPU is told why there is none."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")

    with pytest.raises(FailedPrecondition, match="THERMESH_DEVICE=cuda"):
        on_device(SMALL, QuantisedTensors(), KernelsConfig(device="cuda"))
