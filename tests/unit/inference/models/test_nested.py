"""A network within a network: its cut, its file, and that reordering changes nothing."""

import dataclasses
import json

import pytest
import torch
from quantised_network import SMALL, QuantisedTensors
from scored import scored

from services.inference.config import KernelsConfig
from services.inference.distil.order import Importance, measured, reordered
from services.inference.kernels import whole_network
from services.inference.kernels.cpu import status
from services.inference.models import load, nested, nested_weights
from services.inference.models.nested import Prefix, PrefixTensors
from services.inference.models.network import Network
from services.inference.models.weights import Weights
from services.inference.quantise import forward
from thermesh.errors import InvalidArgument

CONFIG = dataclasses.replace(SMALL, heads=8, kv_heads=2, head_size=32, qkv_bias=True)
HALF = Prefix(heads_per_group=2, neurons=64)
IDS = torch.arange(30)[None]


def logits(config, weights):
    """What a network says of a text."""
    return forward.logits(config, weights, IDS)[0]


def orders_of(config, weights):
    """The order of units by their importance."""
    return [one.order(config.kv_heads) for one in measured(config, weights, IDS)]


def in_order(config, weights, orders):
    """The same network with its units in another order."""
    found = Weights.allocate(config)
    before = weights.destinations(config)
    for name, view in found.destinations(config).items():
        view.copy_(reordered(name, before[name].clone(), orders, config.head_size))
    found.inverse_frequencies.copy_(weights.inverse_frequencies)
    return found


def test_reordering_keeps_the_function_of_the_network():
    """Neurons and heads in another order compute the same, but for the order of sums."""
    weights = QuantisedTensors(CONFIG).reference()._weights
    orders = orders_of(CONFIG, weights)
    moved = in_order(CONFIG, weights, orders)

    assert any((order.neurons != range(96)).any() for order in orders)
    assert any((order.heads != range(8)).any() for order in orders)
    assert torch.allclose(logits(CONFIG, moved), logits(CONFIG, weights), atol=2e-4)


def test_importance_is_the_divergence_of_leaving_out():
    """Units said to be important are those whose absence changes most."""
    config = dataclasses.replace(CONFIG, layers=1)
    weights = QuantisedTensors(config).reference()._weights
    [importance] = measured(config, weights, IDS)
    original = torch.log_softmax(logits(config, weights), -1)
    true = []
    for neuron in range(0, 96, 4):
        kept = weights.layers[0].down[neuron].clone()
        weights.layers[0].down[neuron] = 0
        changed = torch.log_softmax(logits(config, weights), -1)
        true.append(float((original.exp() * (original - changed)).sum(-1).mean()))
        weights.layers[0].down[neuron] = kept
    ranks = [torch.tensor(one).argsort().argsort() for one in (true, importance.neurons[::4])]

    assert torch.corrcoef(torch.stack(ranks).double())[0, 1] > 0.6


def test_heads_are_ranked_within_their_group():
    """A query head stays with its key-value head."""
    importance = Importance(torch.tensor([1.0, 4, 2, 3]).numpy(), torch.zeros(4).numpy())
    assert importance.order(2).heads.tolist() == [1, 0, 3, 2]


def test_a_prefix_is_what_remains_when_the_rest_is_zero():
    """The cut network computes what the whole one does without the units left out."""
    weights = QuantisedTensors(CONFIG).reference()._weights
    part = nested_weights.cut(weights, CONFIG, HALF)
    kept = nested.kept_heads(CONFIG, HALF)
    assert kept == [0, 1, 4, 5]
    for layer in weights.layers:
        layer.down[64:] = 0
        for head in set(range(8)) - set(kept):
            layer.attention_output[head * 32 : (head + 1) * 32] = 0

    assert torch.allclose(logits(HALF.config(CONFIG), part), logits(CONFIG, weights), atol=2e-4)


def test_gradients_pass_through_a_cut():
    """Training a prefix trains the weights of the whole."""
    weights = QuantisedTensors(CONFIG).reference()._weights
    for layer in weights.layers:
        layer.down.requires_grad_()
    logits(HALF.config(CONFIG), nested_weights.cut(weights, CONFIG, HALF)).sum().backward()

    gradient = weights.layers[0].down.grad
    assert gradient[:64].abs().sum() > 0
    assert not gradient[64:].any()


def test_packed_tensors_are_cut_alike():
    """Blocks of a file give the same prefix as its float32 weights."""
    tensors = QuantisedTensors(CONFIG)
    part = QuantisedTensors(HALF.config(CONFIG))
    found = PrefixTensors(tensors, CONFIG, HALF)
    part.matrix, part.vector = found.matrix, found.vector
    part._blocks = {name: found.matrix(name) for name in found.kinds()}
    part._vectors = {name: found.vector(name) for name in tensors._vectors}
    weights = tensors.reference()._weights

    expected = logits(HALF.config(CONFIG), nested_weights.cut(weights, CONFIG, HALF))
    assert torch.equal(logits(part.config, part.reference()._weights), expected)


@pytest.mark.skipif(not status().available, reason="the C++ kernels are not built here")
def test_the_light_network_of_the_kernels_reads_the_cache_of_the_whole():
    """On the C++ kernels both networks take turns on one cache, as guessing has it."""
    tensors = QuantisedTensors(CONFIG)
    wanted = KernelsConfig(kernels="cpu", tier="generic")
    whole = whole_network(CONFIG, tensors, wanted)
    light = whole_network(HALF.config(CONFIG), PrefixTensors(tensors, CONFIG, HALF), wanted)
    reference = Network(
        HALF.config(CONFIG), nested_weights.cut(tensors.reference()._weights, CONFIG, HALF)
    )

    assert torch.allclose(
        scored(light, IDS[0]),
        scored(reference, IDS[0]),
        atol=0.1,
        rtol=0.05,
    )
    assert whole.new_cache(2).sizes == light.new_cache(2).sizes


def test_a_share_becomes_whole_blocks():
    """About as much as asked for, at least one block and one head."""
    assert nested.of_share(CONFIG, 0.5) == Prefix(2, 64)
    assert nested.of_share(CONFIG, 0.01) == Prefix(1, 32)
    assert nested.of_share(CONFIG, 1.0) == Prefix(4, 96)


def test_a_file_tells_its_path(write_gguf, tiny):
    """A loaded model has the light network that its metadata describes."""
    shape = tiny(hidden=64, heads=4, head_size=16, intermediate=64)
    path = write_gguf(shape, metadata=Prefix(1, 32).metadata())
    network = load(path, "nested").network

    assert network.light_network.config.intermediate_size == 32
    assert network.light_network.config.heads == 2
    assert load(write_gguf(shape), "plain").network.light_network is None


@pytest.mark.parametrize(
    "told",
    [
        "no JSON",
        "[]",
        "{}",
        json.dumps({"version": 1, "heads_per_group": 1}),
        json.dumps({"version": 1, "heads_per_group": 1, "neurons": 33}),
        json.dumps({"version": 1, "heads_per_group": 9, "neurons": 32}),
        json.dumps({"version": 1, "heads_per_group": "1", "neurons": 32}),
        json.dumps({"version": 1, "heads_per_group": 1, "neurons": 4096}),
    ],
)
def test_a_path_that_cannot_be_is_refused(write_gguf, tiny, told):
    """Malformed metadata is a malformed model."""
    shape = tiny(hidden=64, heads=4, head_size=16, intermediate=64)
    with pytest.raises(InvalidArgument):
        load(write_gguf(shape, metadata={nested.KEY: told}), "broken")
