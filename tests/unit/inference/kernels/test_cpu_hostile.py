"""Batches that lie, and forks at a bad moment: refused or computed, never out of bounds."""

import contextlib
import dataclasses
import itertools
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from quantised_network import KINDS, SMALL, QuantisedTensors

from services.inference.kernels import CpuNetwork, Span, StepBatch
from services.inference.kernels.cpu import status
from services.inference.kernels.cpu.cache import KINDS as CACHES
from thermesh.errors import MeshError

STATUS = status()
pytestmark = pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
PAGES = 4
EXTREMES = (-(2**63), -(2**31) - 1, -(2**31), -1, 0, 17, 2**31 - 1, 2**31, 2**62)
NUMBERS = st.integers(-3, 70) | st.sampled_from(EXTREMES)
SPAN_FIELDS = ("start", "count", "context_length", "prompt_end", "page_table")


@pytest.fixture(scope="module", params=itertools.product(STATUS.tiers, CACHES), ids=" ".join)
def network(request):
    """A small network of each tier that this processor runs and kind of cache, in all formats."""
    tier, kv_cache = request.param
    tensors = QuantisedTensors(kinds=tuple(KINDS))
    return CpuNetwork(SMALL, tensors, tier, kv_cache=kv_cache)


@st.composite
def batches(draw):
    """A batch of two sound spans of which a few numbers were changed to anything."""
    counts = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    total = sum(counts)
    spans = [
        Span(0, counts[0], counts[0], (0, 1), prompt_end=draw(st.integers(0, counts[0]))),
        Span(counts[0], counts[1], counts[1], (2, 3)),
    ]
    ids, positions = torch.arange(total), torch.arange(total)
    for _ in range(draw(st.integers(1, 3))):
        place, row, value = draw(st.integers(0, 6)), draw(st.integers(0, total - 1)), draw(NUMBERS)
        if place == 0:
            ids[row] = value
        elif place == 1:
            positions[row] = value
        else:
            field = SPAN_FIELDS[place - 2]
            tables = st.lists(NUMBERS, max_size=3).map(tuple)
            changed = draw(tables) if field == "page_table" else value
            which = row % len(spans)
            spans[which] = dataclasses.replace(spans[which], **{field: changed})
    return StepBatch(ids, positions, tuple(spans[: draw(st.integers(1, 2))]))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=batches())
def test_a_batch_that_lies_is_refused_or_computed(network, batch):
    """Whatever the numbers of a batch are, there are logits or an error of ours."""
    cache = network.new_cache(PAGES)

    with contextlib.suppress(MeshError):
        logits = network.step(batch, cache)
        assert logits.shape == (len(batch.spans), SMALL.vocabulary_size)
        assert np.isfinite(logits).all()


@pytest.mark.slow
def test_a_process_may_fork_while_a_step_runs():
    """A child that was forked in the middle of steps computes what its parent does."""
    script = """
import os, sys, threading
import numpy as np
sys.path.insert(0, "tests/fakes")
from quantised_network import SMALL, QuantisedTensors
from services.inference.kernels import CpuNetwork, Span, StepBatch
network = CpuNetwork(SMALL, QuantisedTensors())
network.use_threads(2)
batch = StepBatch(np.arange(100), np.arange(100), (Span(0, 100, 100, tuple(range(7))),))
expected = network.step(batch, network.new_cache(7))
ended, started = threading.Event(), threading.Event()
def work():
    while not ended.is_set():
        network.step(batch, network.new_cache(7))
        started.set()
worker = threading.Thread(target=work)
worker.start()
started.wait()
failures = 0
for _ in range(8):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(network.step(batch, network.new_cache(7)), expected) else 1)
    failures += os.waitpid(child, 0)[1] != 0
ended.set()
worker.join()
sys.exit(failures)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], timeout=120, check=False, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr
