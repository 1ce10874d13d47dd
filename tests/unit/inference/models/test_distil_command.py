"""`thermesh distil`: from a file to a smaller one that the engine loads."""

import json

import gguf
import pytest

from services.inference.distil.__main__ import main
from services.inference.kernels import precision
from services.inference.models import load
from services.inference.quantise import __main__ as quantise
from services.inference.quantise.source import Source


@pytest.mark.slow
def test_the_command_writes_a_model_that_the_engine_loads(write_gguf, tiny, tmp_path, capsys):
    """From a file to a smaller one with a light path, and a report of both."""
    shape = tiny(hidden=64, heads=4, head_size=16, intermediate=128)
    source = write_gguf(shape, kind=gguf.GGMLQuantizationType.Q8_0)
    output = tmp_path / "small.gguf"
    sizes = ["--texts", "8", "--fitted", "4", "--held-out", "4", "--length", "16"]

    assert main([str(source), str(output), "--minutes", "0.02", "--light", "0.5", *sizes]) == 0

    report = json.loads((tmp_path / "small.gguf.json").read_text())
    model = load(output, "small")
    assert model.network.light_network is not None
    assert report["trained"]["steps"] >= 1
    assert set(report["after"]) == {"whole", "light"}
    assert report["light"] == {"heads_per_group": 1, "neurons": 64}
    assert "mean KL" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*.work"))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(["--light", "1.5"], "light"), (["--minutes", "-1"], "minutes"), (["--texts", "1"], "texts")],
)
def test_bad_arguments_are_refused(write_gguf, tmp_path, capsys, arguments, field):
    """Nothing is computed for a run that cannot be."""
    assert main([str(write_gguf()), str(tmp_path / "o.gguf"), *arguments]) == 1
    assert field in capsys.readouterr().err


@pytest.mark.slow
def test_a_precision_plan_is_allocated_for_a_file(write_gguf, tiny, tmp_path, capsys):
    """Attention stays high, and fewer bytes cost more divergence."""
    shape = tiny(hidden=64, heads=4, head_size=16, intermediate=128)
    source = write_gguf(shape)
    sizes = ["--fitted", "4", "--held-out", "2", "--length", "16"]
    plans = []
    for bits in ("8", "10", "17"):
        output = tmp_path / f"{bits}.json"
        assert quantise.main([str(source), str(output), "--bits", bits, *sizes]) == 0
        plans.append(precision.read(output))

    assert "expected KL" in capsys.readouterr().out
    weights = sum(rows * columns for rows, columns in Source(source).matrices.values())
    for plan, bits in zip(plans, (8, 10, 17), strict=True):
        assert plan.bytes <= weights * bits / 8
        assert all(layer["query_key_value"].kind != "int4" for layer in plan.layers)
        plan.check(Source(source).config)
    costs = [plan.expected_kl for plan in plans]
    assert costs == sorted(costs, reverse=True)
    assert any(layer["down"].kind == "int4" for layer in plans[0].layers)
