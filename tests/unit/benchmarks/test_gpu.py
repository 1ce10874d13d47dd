"""The GPU check on a machine without a GPU, and the parts of it that need none."""

import dataclasses
import importlib
import os
import subprocess
import sys
import time

import pytest
import torch
from on_the_host import OnTheHost

from benchmarks.gpu import __main__ as check
from benchmarks.gpu import learned, report, rows, sparse, worlds
from benchmarks.gpu.timing import OutOfTime, limit, spread
from services.inference.kernels.triton import reference, status

WITHOUT_GPU = """
import sys

REFUSED = {"grpc", "google", "gguf", "tokenizers", "safetensors", "jinja2", "redis"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise AssertionError(name + " was imported")

sys.meta_path.insert(0, Refuse())
from benchmarks.gpu.__main__ import main
sys.exit(main([]))
"""


@pytest.mark.slow
def test_without_a_gpu_the_check_says_so_with_a_status_of_its_own():
    """No GPU is neither success nor failure; and nothing beyond torch is imported to find out."""
    environ = {**os.environ, "TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", WITHOUT_GPU]
    result = subprocess.run(
        command, cwd=check.machine.ROOT, env=environ, check=False, capture_output=True, text=True
    )

    assert result.returncode == check.NO_GPU, result.stderr
    assert "gpu-check: nothing to check here" in result.stderr
    assert not result.stdout


@pytest.mark.skipif(not status().available, reason=status().reason)
def test_the_streams_of_a_row_decode_and_start_over(monkeypatch):
    """The engine's way of decoding goes on for as long as a measurement wants."""
    operations = importlib.import_module("services.inference.kernels.triton.operations")
    monkeypatch.setattr(reference, "sample", operations.sample, raising=False)
    make = worlds.dense("cpu", torch.float32)
    weights = worlds.random_weights(worlds.TINY, make, worlds.four_bits("cpu", 32), make)
    network = worlds.network(worlds.TINY, weights, reference, torch.float16)
    streams = worlds.Streams(network, 2, 16)

    for _ in range(5):
        streams.step()

    assert network._ahead.used_count == 4
    assert weights.byte_count == network.weight_bytes


def once(contenders, _repeats=1):
    """Run each contender once; say that it took longer than the one before."""
    for work in contenders.values():
        work()
    return {name: [1.0 + place] * 7 for place, name in enumerate(contenders)}


@pytest.fixture
def on_the_host(monkeypatch):
    """Rows of the table in tiny shapes on the CPU, where time means nothing."""
    operations = importlib.import_module("services.inference.kernels.triton.operations")
    shape = dataclasses.replace(worlds.TINY, hidden_size=128, intermediate_size=256)
    for name in ("SMALL", "LARGE"):
        monkeypatch.setattr(worlds, name, shape)
    monkeypatch.setattr(rows, "_STREAMS", 2)
    monkeypatch.setattr(rows, "_CONTEXT", 32)
    monkeypatch.setattr(sparse, "LARGE", shape)
    monkeypatch.setattr(sparse, "_DECODED", 320)
    monkeypatch.setattr(sparse, "_PROMPTS", ((320, 1.2),))
    monkeypatch.setattr(reference, "sample", operations.sample, raising=False)
    for module in (rows, learned, sparse):
        monkeypatch.setattr(module, "operations", lambda: reference)
    for module in (rows, sparse):
        monkeypatch.setattr(module, "compared", once)
        monkeypatch.setattr(module, "bandwidth", lambda: 1e12)
    monkeypatch.setattr(rows, "wall_milliseconds", lambda work, _: [work() or 1.0] * 7)
    decode = rows.decode_ms
    for module in (rows, learned):
        monkeypatch.setattr(module, "decode_ms", lambda network, *_: decode(network, 2, 32))
    with OnTheHost():
        yield


@pytest.mark.slow
@pytest.mark.skipif(not status().available, reason=status().reason)
@pytest.mark.parametrize(
    ("row", "bars"),
    [
        (rows.single_stream, 2),
        (rows.many_streams, 0),
        (rows.four_bits, 2),
        (rows.mixed, 2),
        (sparse.decode, 2),
        (sparse.prefill, 1),
        (learned.light, 1),
    ],
)
@pytest.mark.usefixtures("on_the_host")
def test_a_row_measures_what_it_can_and_names_what_it_cannot(row, bars):
    """Each row runs, gives its figures and bars, and leaves no word on who is missing out."""
    figures = rows.Figures()

    row(figures)

    assert figures.values
    assert len(figures.bars) == bars
    assert all(figures.missing.values())


def endless():
    """Compute until the limit ends it."""
    with limit(0.05):
        while time.monotonic():
            pass


def test_a_row_that_takes_too_long_is_ended():
    """A row ends at its limit, and the next one has its own."""
    with pytest.raises(OutOfTime):
        endless()
    with limit(60):
        assert spread([1.0, 2.0, 3.0])["median"] == 2


@pytest.mark.slow
def test_rows_without_figures_say_why():
    """What is not measured stands in the report with its reason, never as a figure."""
    unmeasured = check.measured(9, "training", "not part of this build", 0, deadline=0)
    broken = check.measured(1, "decode", lambda _: 1 / 0, 60, deadline=time.monotonic() + 60)
    late = check.measured(1, "decode", lambda _: None, 60, deadline=time.monotonic())
    result = {
        "machine": {"commit": "abc", "at": "today"},
        "device": {"name": "G", "memory_gib": 1, "torch": "2", "triton": "3", "cuda": "13"},
        "conformance": {"passed": 2, "failed": {"a kernel": "deviates"}, "left_out": []},
        "rows": [unmeasured, broken, late],
        "seconds": 1,
    }

    page = report.page(result)

    assert "| 9 | training | not measured | not part of this build |" in page
    assert "not measured | ZeroDivisionError" in page
    assert "not measured | no time was left" in page
    assert "- a kernel: deviates" in page


def test_a_report_is_written_as_page_and_as_numbers(tmp_path):
    """Medians stand with their spread; bars say whether they were reached."""
    result = {
        "machine": {"commit": "abc", "at": "today"},
        "device": {"name": "G", "memory_gib": 1, "torch": "2", "triton": "3", "cuda": "13"},
        "conformance": {"passed": 2, "failed": {}, "left_out": []},
        "rows": [
            {
                "number": 1,
                "name": "decode",
                "values": {"own": spread([1.0, 2.0, 3.0]), "rate": 7.0},
                "bars": {">= 10x": False},
                "missing": {"torchao": "not installed"},
            }
        ],
        "seconds": 1,
    }

    report.write(result, tmp_path)

    page = (tmp_path / "gpu-check.md").read_text()
    assert "| 1 | decode | >= 10x | no |" in page
    assert "| 1 | decode | torchao | not measured: not installed |" in page
    assert "- 1. own: 2 (1.5 to 2.5)" in page
    assert (tmp_path / "gpu-check.json").exists()
