"""A precision plan on the C++ kernels: the numbers of a GPU, as blocks."""

import dataclasses

import pytest
import torch
from quantised_network import SMALL, QuantisedTensors
from scored import scored

from services.inference.kernels import CpuNetwork, status
from services.inference.kernels.precision import PRODUCTS, Precision, PrecisionPlan
from services.inference.kernels.triton import reference
from services.inference.kernels.triton.matrix import as_blocks, dequantise, from_blocks, quantise
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.planned import from_plan
from services.inference.kernels.triton.weights import Share
from services.inference.models.planned import PlannedTensors, as_planned
from thermesh.errors import FailedPrecondition

CONFIG = dataclasses.replace(SMALL, intermediate_size=128, tied_embeddings=True)
STATUS = status()


def plan(embedding="int8/32", **products):
    """A plan for the small network; products that are not named stay as stored."""
    parsed = {name: Precision.parsed(products.get(name, "stored"), name) for name in PRODUCTS}
    return PrecisionPlan(Precision.parsed(embedding, "embedding"), (parsed,) * CONFIG.layers)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 128), (8, 32), (8, 64)])
def test_groups_are_blocks_of_the_same_numbers(bits, group):
    """Wider groups repeat their scale in each block."""
    numbers = torch.randn(6, 256, generator=torch.Generator().manual_seed(bits))
    rounded = quantise(numbers, bits, group)

    assert torch.equal(dequantise(from_blocks([as_blocks(rounded)])), dequantise(rounded))


@pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
def test_a_cpu_computes_with_the_numbers_of_a_device():
    """One plan, both kinds of kernels: nearly the same logits, and not those of the file."""
    tensors, ids = QuantisedTensors(CONFIG), torch.arange(24)
    wanted = plan(gate_up="int4/32", down="int4/128", attention_output="int8/64")
    on_cpu = CpuNetwork(CONFIG, PlannedTensors(tensors, wanted), "generic")
    weights = from_plan(CONFIG, tensors, wanted, torch.device("cpu"), Share(), torch.float32)
    device = GpuNetwork(CONFIG, weights, reference, torch.device("cpu"), kv_dtype=torch.float16)

    found, expected, stored = (scored(one, ids) for one in (on_cpu, device, tensors.reference()))

    assert (found - expected).norm() < 0.02 * expected.norm()
    assert (found - stored).norm() > 0.05 * stored.norm()


@pytest.mark.parametrize("precision", ["fp8", "bf16"])
def test_precisions_without_blocks_are_refused(tmp_path, monkeypatch, precision):
    """The message names the matrix and what a CPU serves."""
    path = tmp_path / "plan.json"
    path.write_text(plan(down=precision).to_json())
    monkeypatch.setenv("THERMESH_PRECISION_PLAN", str(path))

    with pytest.raises(FailedPrecondition, match=f"ffn_down.weight is {precision}; on a CPU"):
        as_planned(CONFIG, QuantisedTensors(CONFIG))


def test_without_a_plan_tensors_are_the_file_s():
    """Nothing is wrapped that need not be."""
    tensors = QuantisedTensors(CONFIG)
    assert as_planned(CONFIG, tensors) is tensors
