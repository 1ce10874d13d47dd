"""A light path of its own: what is refitted, what it becomes in the file, what stays."""

import json

import gguf
import numpy as np
import pytest
import torch
from scored import scored

from services.inference.distil.__main__ import main
from services.inference.distil.refitting import solved
from services.inference.models import load, nested
from services.inference.models.gguf_file import GgufFile
from services.inference.quantise.source import Source
from thermesh.errors import MeshError

SIZES = ["--texts", "8", "--fitted", "4", "--held-out", "4", "--length", "16"]


def test_what_stays_makes_up_for_what_was_cut():
    """Inputs that predict those left out take over their part of the product."""
    generator = torch.Generator().manual_seed(0)
    kept = torch.randn(400, 6, generator=generator)
    cut = kept @ torch.randn(6, 3, generator=generator)
    before, others = torch.randn(6, 4, generator=generator), torch.randn(3, 4, generator=generator)
    wanted = kept @ before + cut @ others
    found = solved(kept.t() @ kept / 400, kept.t() @ wanted / 400, before)

    assert (wanted - kept @ found).norm() < 0.05 * (wanted - kept @ before).norm()


def test_nothing_to_make_up_for_changes_nothing():
    """Held where they were, weights that are right already stay."""
    kept, before = torch.randn(50, 6), torch.randn(6, 4)
    found = solved(kept.t() @ kept / 50, kept.t() @ (kept @ before) / 50, before)
    assert torch.allclose(found, before, atol=1e-4)


@pytest.mark.slow
def test_the_whole_stays_and_the_path_has_weights_of_its_own(write_gguf, tiny, tmp_path):
    """Bytes of the whole are those of the source; the engine computes with both."""
    shape = tiny(hidden=64, heads=4, head_size=16, intermediate=128)
    source = write_gguf(shape, kind=gguf.GGMLQuantizationType.Q8_0)
    output = tmp_path / "light.gguf"
    arguments = [str(source), str(output), "--minutes", "0.02", "--bits", "0", "--light", "0.5"]
    assert main([*arguments, *SIZES]) == 0

    before, after = GgufFile(source), GgufFile(output)
    for name in before.tensors:
        assert np.array_equal(before.bytes_of(name), after.bytes_of(name)), name
    report = json.loads((tmp_path / "light.gguf.json").read_text())
    assert report["light"] == {"heads_per_group": 2, "neurons": 64}
    assert report["bytes"] <= output.stat().st_size
    model = load(output, "light")
    whole, light = model.network, model.network.light_network
    assert light.weight_bytes < whole.weight_bytes
    assert whole.new_cache(2).sizes == light.new_cache(2).sizes
    kinds = {
        after.tensors[f"light.{name}.weight"].format for name in ("blk.0.ffn_up", "token_embd")
    }
    assert kinds == {"Q4_1", "Q4_0"}
    ids = torch.arange(20)
    assert torch.equal(scored(whole, ids), scored(load(source, "whole").network, ids))
    with pytest.raises(MeshError, match="has a light path already"):
        Source(output)


@pytest.mark.parametrize("name", ["light.blk.0.ffn_up.weight", "light.blk.9.ffn_up.weight"])
def test_a_path_of_another_size_is_refused(write_gguf, tiny, name):
    """Tensors of a path have the shapes that its metadata asks for, and no others are there."""
    shape = tiny(hidden=64, heads=4, head_size=16, intermediate=64)
    tensors = {name: np.zeros((64, 64), np.float32)}
    path = write_gguf(shape, metadata=nested.Prefix(1, 32).metadata(), tensors=tensors)
    with pytest.raises(MeshError, match=name):
        load(path, "broken")
