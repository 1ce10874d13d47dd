"""Rows of the GPU check that need a model file, run once on the host in tiny shapes.

Time means nothing here: each line of a row has run before a device sees it.
"""

import gguf
import pytest
import torch
from on_the_host import OnTheHost

from benchmarks.gpu import agreement, learned, rows
from services.inference.kernels.triton import reference, status
from thermesh import models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not status().available, reason=status().reason),
]


class Scaled:
    """Products of eight bits by their reference: the interpreter has no FP8."""

    normed_codes = staticmethod(reference.normed_codes)
    scaled_linear = staticmethod(reference.scaled_linear)
    scaled_product = staticmethod(reference.scaled_linear)


@pytest.fixture
def model(write_gguf, tiny, monkeypatch):
    """A model of 128 columns where the packaged one would be."""
    shape = tiny(hidden=128, heads=4, head_size=32, intermediate=128)
    path = write_gguf(shape, kind=gguf.GGMLQuantizationType.Q8_0)
    monkeypatch.setattr(models, "locate", lambda _name: path)
    monkeypatch.setattr("services.inference.distil.__main__.locate", lambda _name: path)
    return shape


def measured(row):
    """What a row finds."""
    figures = rows.Figures()
    row(figures)
    assert figures.values
    return figures


def test_products_of_eight_bits_are_compared_with_those_of_torch(monkeypatch):
    """Row 4: each contender multiplies once, and each size has its two bars."""
    monkeypatch.setattr(rows, "_FP8_ROWS", (32, 64))
    monkeypatch.setattr(rows, "_FP8_WIDTH", 64)
    monkeypatch.setattr(rows, "scaled", lambda: Scaled)
    products = {}

    def once(contenders, _repeats):
        products.update({name: work().float() for name, work in contenders.items()})
        return {name: [1.0] * 7 for name in contenders}

    monkeypatch.setattr(rows, "compared", once)
    with OnTheHost():
        figures = measured(rows.fp8_products)

    assert len(figures.bars) == 4
    plain = products.pop("bfloat16")
    for name, found in products.items():
        assert (found - plain).norm() < 0.1 * plain.norm(), name


@pytest.mark.usefixtures("model")
def test_a_model_on_both_kinds_of_kernels_says_the_same(monkeypatch):
    """Row 8: the C++ kernels and Triton's, interpreted, on one file."""
    monkeypatch.setattr(agreement, "_TOKENS", 3)
    monkeypatch.setattr(agreement, "_PROMPTS", ("hello", "world or"))

    figures = measured(agreement.measure)

    assert figures.bars == {">= 95 % of prompts": True, "mean KL <= 1e-3": True}


@pytest.mark.usefixtures("model")
def test_the_trained_row_is_the_command_and_its_report(monkeypatch):
    """Row 9: perplexities before and after, and the steps between."""
    sizes = ("--texts", "8", "--fitted", "4", "--held-out", "4", "--length", "16")
    run = ("--device", "cpu", "--threads", "1", "--minutes", "0.01", "--bits", "6")
    monkeypatch.setattr(learned, "_TRAINING", (*run, *sizes))
    threads = torch.get_num_threads()
    try:
        figures = measured(learned.trained)
    finally:
        torch.set_num_threads(threads)

    assert figures.values["steps"] >= 1
    assert list(figures.bars) == ["perplexity <= +5 %"]


def test_a_plan_takes_fewer_bytes_and_says_nearly_the_same(model, monkeypatch):
    """Row 11: two networks of one file, one of them by a plan."""
    monkeypatch.setattr(learned, "_LAYERS", model.layers)
    monkeypatch.setattr(learned, "_OUTER", "int8/32")
    plan = dict.fromkeys(learned._PLAN, "int4/32") | {"query_key_value": "int8/32"}
    monkeypatch.setattr(learned, "_PLAN", plan)
    monkeypatch.setattr(learned, "decode_ms", lambda *_: [1.0] * 7)
    monkeypatch.setattr(learned, "_IDS", range(32))

    figures = measured(learned.planned)

    assert 0 < figures.values["mean KL, nats"] < 1
    assert figures.values["plan, MB"] < figures.values["stored, MB"]
