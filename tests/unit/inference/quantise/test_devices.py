"""Precision plans: what a device's products compute with, chosen, written, read and run."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quantised_network import SMALL, QuantisedTensors
from scored import scored

from services.inference.kernels.precision import PRODUCTS, Precision, PrecisionPlan, from_json, read
from services.inference.kernels.triton import reference
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.planned import from_plan
from services.inference.kernels.triton.weights import Share
from thermesh.errors import InvalidArgument, NotFound

CPU = torch.device("cpu")
STORED, FP8, BF16 = Precision("stored"), Precision("fp8"), Precision("bf16")
INT4, INT8 = Precision("int4", 32), Precision("int8", 32)
LAYER = {"query_key_value": INT8, "attention_output": FP8, "gate_up": INT4, "down": INT4}


def plan(layer=None, **changes):
    """A plan for the small network."""
    values = {"embedding": INT8, "layers": (layer or LAYER,) * 2, "head": BF16}
    return PrecisionPlan(**values | changes)


def network(source, chosen):
    """The network for devices on plain torch."""
    weights = from_plan(SMALL, source, chosen, CPU, Share(), torch.float32)
    return GpuNetwork(SMALL, weights, reference, CPU, kv_dtype=torch.float16)


def deviation(actual, expected):
    """Root mean square of the difference, relative to that of what is expected."""
    return ((actual - expected).square().mean() / expected.square().mean()).sqrt().item()


@given(
    st.lists(st.sampled_from([STORED, FP8, BF16, INT4, INT8]), min_size=9, max_size=9),
    st.integers(0, 10**12),
)
def test_a_plan_is_read_as_it_was_written(precisions, byte_count):
    """JSON and back: nothing is lost."""
    layers = tuple(dict(zip(PRODUCTS, precisions[i : i + 4], strict=True)) for i in (0, 4))
    made = PrecisionPlan(precisions[8], layers, None, byte_count, 0.25)

    assert from_json(made.to_json()) == made


BROKEN = {
    "{": "plan",
    '{"version": 2}': "version",
    '{"version": 1, "layers": 3}': "layers",
    '{"version": 1, "layers": [], "embedding": "int4"}': "embedding",
    '{"version": 1, "layers": [], "embedding": "int4/48"}': "embedding",
    '{"version": 1, "layers": [{}], "embedding": "fp8"}': "layers[0]",
    '{"version": 1, "layers": [], "embedding": "fp8", "bytes": -1}': "bytes",
    '{"version": 1, "layers": [], "embedding": "fp8", "head": 8}': "head",
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_plan_is_refused_by_field(text):
    """Each refusal names the field."""
    with pytest.raises(InvalidArgument) as refused:
        from_json(text)
    assert refused.value.field == BROKEN[text]


def test_a_layer_s_field_is_named_in_full():
    """A wrong precision deep inside is found."""
    told = json.loads(plan().to_json())
    told["layers"][1]["down"] = "int3/32"
    with pytest.raises(InvalidArgument) as refused:
        from_json(json.dumps(told))
    assert refused.value.field == "layers[1].down"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"layers": (LAYER,)}, "layers"),
        ({"head": None}, "head"),
        ({"layers": (LAYER, LAYER | {"down": Precision("int4", 64)})}, "layers[1].down"),
    ],
)
def test_a_plan_for_another_network_is_refused(changes, field):
    """Layers, head and groups must be those of the model."""
    with pytest.raises(InvalidArgument) as refused:
        network(QuantisedTensors(), plan(**changes))
    assert refused.value.field == field


def test_a_missing_file_is_not_found(tmp_path):
    """The setting names a file."""
    with pytest.raises(NotFound):
        read(tmp_path / "none.json")


def test_stored_everywhere_is_the_file_as_it_is():
    """A plan that changes nothing computes what the model computes without one."""
    tensors, ids = QuantisedTensors(), torch.arange(40)
    whole = plan(dict.fromkeys(PRODUCTS, STORED), embedding=STORED, head=STORED)

    assert deviation(scored(network(tensors, whole), ids), tensors.reference().score(ids)) < 2e-3


def test_each_product_runs_in_its_own_precision():
    """Kinds of matrices follow the plan; the network says about the same as before."""
    tensors, ids = QuantisedTensors(), torch.arange(40)
    built = network(tensors, plan())
    layer = built._layers._weights.layers[0]

    kinds = [layer.query_key_value.kind, layer.attention_output.kind, layer.gate_up.kind]
    assert kinds == ["q8", "fp8", "q4"]
    assert deviation(scored(built, ids), tensors.reference().score(ids)) < 0.3


def test_float_weights_have_nothing_stored():
    """What was never quantised can only be rounded."""
    weights = QuantisedTensors().reference()._weights
    low = network(weights, plan())
    assert low.weight_bytes < 2 * sum(v.numel() for v in weights.destinations(SMALL).values())
    with pytest.raises(InvalidArgument):
        network(weights, plan(dict.fromkeys(PRODUCTS, STORED)))


def test_untied_heads_have_a_precision_of_their_own():
    """The head follows its entry, the embedding its own."""
    tied = dataclasses.replace(plan(), head=None)
    assert plan().of("output.weight") == BF16
    assert tied.of("output.weight") == plan().of("token_embd.weight") == INT8
