"""Several processes that share every layer compute what one computes alone."""

import dataclasses
import os

import pytest
import torch
import torch.multiprocessing
from quantised_network import SMALL, QuantisedTensors

from services.inference.kernels import Span, StepBatch, follow
from services.inference.kernels.cpu.packing import Unsuitable
from services.inference.kernels.triton import reference
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.parallel import Leader, add_up, join
from services.inference.kernels.triton.weights import Share, check, from_tensors

CONFIG = dataclasses.replace(SMALL, intermediate_size=128, qkv_bias=True, output_bias=True)
IDS = torch.arange(20)


def network(share, **options):
    """The part of a small network that `share` names."""
    cpu = torch.device("cpu")
    weights = from_tensors(CONFIG, QuantisedTensors(CONFIG), cpu, share)
    return GpuNetwork(
        CONFIG, weights, reference, cpu, kv_dtype=torch.float16, share=share, **options
    )


def process(rank, folder):
    """One of two processes; the first writes what it got."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    part = network(join("cpu"), add_up=add_up)
    if not follow(part):
        leader = Leader(part)
        cache = leader.new_cache(3)
        assert leader.fitting_pages(64) > 0
        span = Span(0, 20, 20, (1, 0))
        logits = leader.step(StepBatch(IDS, torch.arange(20), (span,)), cache)
        cache.copy_page(0, 2)
        again = StepBatch(IDS[-1:], torch.tensor([19]), (Span(0, 1, 20, (1, 2)),))
        copied = leader.step(again, cache)
        torch.save((logits, copied, leader.score(IDS)), f"{folder}/logits")
        leader.close()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_logits_of_one(tmp_path):
    """Heads and neurons are shared by two, and the sums are those of one."""
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)

    logits, copied, scores = torch.load(tmp_path / "logits")
    alone = network(Share()).score(IDS)
    torch.testing.assert_close(scores, alone, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(logits[0], alone[-1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(copied[0], alone[-1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("world", [3, 4])
def test_layers_that_cannot_be_shared_evenly_are_refused(world):
    """Heads, and blocks of 32 weights, are never cut."""
    with pytest.raises(Unsuitable, match=f"shared evenly by {world}"):
        check(CONFIG, Share(0, world))


def test_a_process_alone_has_everything(monkeypatch):
    """Without torchrun there is one share, and nobody to follow."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    assert join("cpu") == Share(0, 1)
    assert not follow(network(Share()))
