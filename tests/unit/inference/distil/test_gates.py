"""Learned gates: they begin as means, learn what dense attention reads, and choose by it."""

import dataclasses
import importlib

import pytest
import torch
from quantised_network import SMALL, QuantisedTensors

from services.inference.distil import gates as teaching
from services.inference.kernels.gates import (
    Gates,
    aimed,
    gated_scores,
    pages_read,
    read,
    summarised,
)
from services.inference.kernels.page_choice import pages_read as read_by_means
from services.inference.kernels.sparsity import Sparsity
from services.inference.kernels.triton import status
from services.inference.kernels.triton.cache import DeviceCache
from thermesh.errors import InvalidArgument

STATUS = status()
CHOOSING = Sparsity(dense_below=0, dense_layers=0, budget_tokens=128, window_tokens=64)


def texts(count, seed):
    """Random texts of 24 pages."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 200, (count, 384), generator=generator)


def network():
    """A small random network whose attention is sharp enough to choose by."""
    weights = QuantisedTensors().reference()._weights
    for layer in weights.layers:
        layer.query_key_value.mul_(2.0)
    return weights


def test_untaught_gates_read_what_means_do():
    """The identity chooses the same pages as the score of means, rounding of codes aside."""
    generator = torch.Generator().manual_seed(4)
    keys, queries = (torch.randn(384, heads, 32, generator=generator) for heads in (2, 4))
    positions = range(368, 384)
    gates = Gates.of_means(1, 2, 32)

    found = pages_read(CHOOSING, gates, queries[-16:], keys, positions, layer=0)
    expected = read_by_means(CHOOSING, queries[-16:], keys, positions, layer=0)

    assert torch.equal(found.sum(-1), expected.sum(-1))
    assert (found == expected).float().mean() > 0.97


def test_a_gate_finds_a_page_that_means_hide():
    """One key among opposites: the mean is nothing, the spread tells."""
    keys = 0.01 * torch.randn(384, 1, 32, generator=torch.Generator().manual_seed(1))
    keys[160], keys[161] = 3.0, -3.0
    queries = torch.ones(1, 1, 32)
    turns = torch.eye(32).view(1, 1, 32, 32)

    begun, last = Gates.of_means(1, 1, 32), range(383, 384)
    by_means = pages_read(CHOOSING, begun, queries, keys, last, layer=0)
    gate = Gates(turns, torch.ones(1, 1, 32))
    by_gate = pages_read(CHOOSING, gate, queries, keys, last, layer=0)

    assert by_gate[0, 0, 10]
    assert by_gate.sum() == by_means.sum()


def restless(_config, _weights, text, seed):
    """Scenes of two layers in which some pages hold keys far from their mean."""
    generator = torch.Generator().manual_seed(seed + int(text[0]))
    for layer in range(2):
        keys = torch.randn(384, 2, 32, generator=generator)
        restlessness = torch.rand(24, 1, 2, 1, generator=generator) * 2
        keys = (keys.view(24, 16, 2, 32) * restlessness).view(384, 2, 32)
        queries = torch.randn(1, 384, 4, 32, generator=generator) * (layer + 1)
        places = torch.randperm(128, generator=generator)[:64] + 256
        yield teaching._scene(queries[0].transpose(0, 1), keys.transpose(0, 1), places)


def test_teaching_improves_what_is_found_on_texts_never_seen(monkeypatch):
    """Where means hide what counts, held-out recall is above theirs in every layer."""
    monkeypatch.setattr(teaching, "scenes", restless)
    begun = Gates.of_means(2, 2, 32)
    taught = teaching.learned(SMALL, None, texts(6, 1), rounds=8, seed=3)
    held_out = texts(3, 2)

    before = teaching.recalls(SMALL, None, begun, held_out, 4)
    after = teaching.recalls(SMALL, None, taught, held_out, 4)

    assert all(new > old + 0.05 for new, old in zip(after, before, strict=True)), (before, after)


def test_teaching_brings_a_network_s_gates_closer_to_its_attention():
    """On a real forward pass the divergence from dense attention falls."""
    weights, taught_by = network(), texts(3, 1)
    begun = Gates.of_means(2, 2, 32)
    taught = teaching.learned(SMALL, weights, taught_by, rounds=4, seed=3)

    for layer, scene in enumerate(teaching.scenes(SMALL, weights, taught_by[0], 5)):
        assert teaching.loss(taught, layer, scene) < teaching.loss(begun, layer, scene)


def test_a_file_gives_back_its_gates(tmp_path):
    """Written and read; of another network, or no file at all, refused."""
    gates = Gates(torch.randn(2, 2, 8, 8), torch.randn(2, 2, 8))
    path = tmp_path / "gates.npz"
    gates.save(path)
    found = read(path, 2, 2, 8)

    assert all(map(torch.equal, vars(found).values(), vars(gates).values()))
    with pytest.raises(InvalidArgument):
        read(path, 3, 2, 8)
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidArgument):
        read(path, 2, 2, 8)


def test_a_text_too_short_to_choose_in_is_refused():
    """Every page would be read anyway."""
    with pytest.raises(ValueError, match="nothing to choose"):
        next(teaching.scenes(SMALL, network(), texts(1, 1)[0, :64], 0))


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
@pytest.mark.parametrize("dtype", [torch.float16, torch.int8])
def test_the_kernels_score_as_the_oracle_does(dtype):
    """Summaries and scores of a cache in any order of pages are those of its keys."""
    fast = importlib.import_module("services.inference.kernels.triton.gating")
    generator = torch.Generator().manual_seed(6)
    cache = DeviceCache(1, 12, 2, 32, dtype, torch.device("cpu"))
    layer = cache.layers[0]
    numbers = torch.randn(12, 2, 16, 32, generator=generator)
    if dtype == torch.int8:
        layer.key_scales.copy_(numbers.abs().amax(-1) / 127)
        numbers = (numbers / layer.key_scales[..., None]).round()
    layer.keys.copy_(numbers.to(dtype))
    kept = layer.keys.float() * (layer.key_scales[..., None] if dtype == torch.int8 else 1)
    table = torch.randperm(12, generator=generator)[None].int()
    keys = kept[table[0].long()].transpose(1, 2).reshape(-1, 2, 32)
    gates = Gates(torch.randn(1, 2, 32, 32), torch.rand(1, 2, 32))
    turned, spreading = aimed(gates, 0, torch.randn(1, 6, 32, generator=generator))

    scores = fast.gated_scores(turned, spreading, *fast.summaries(layer), table)

    expected = gated_scores(turned, spreading, summarised(keys))
    assert torch.allclose(scores, expected, atol=1e-3, rtol=1e-3)


def test_the_command_line_s_layout_fits_other_networks():
    """One key-value head, or as many as heads: shapes follow."""
    for kv_heads in (1, 4):
        config = dataclasses.replace(SMALL, kv_heads=kv_heads)
        weights = QuantisedTensors(config).reference()._weights
        gates = Gates.of_means(2, kv_heads, 32)
        assert len(teaching.recalls(config, weights, gates, texts(1, 3), 4)) == 2
