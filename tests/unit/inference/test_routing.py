"""Which heads get a window, and which keep reading everything."""

import dataclasses
import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from quantised_network import SMALL, QuantisedTensors

from services.inference.kernels import CpuNetwork, Sparsity
from services.inference.kernels.cpu import status
from services.inference.models import head_windows
from services.inference.routing import measuring
from services.inference.routing.choosing import chosen

SIZES = (1024, 256)
built = pytest.mark.skipif(not status().available, reason=status().reason)


@given(
    nats=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12),
    bound=st.floats(0, 1),
)
def test_divergences_of_the_windows_stay_within_the_bound(nats, bound):
    """Whatever is chosen adds up to the bound at most."""
    windows = chosen(np.array(nats), SIZES, 8192, bound)

    places = {0: None, 1024: 0, 256: 1}
    total = sum(
        row[places[window]]
        for row, window in zip(nats, windows.tolist(), strict=True)
        if places[window] is not None
    )
    assert total <= bound + 1e-9


def test_heads_that_lose_nothing_get_the_least_window():
    """A head that needs no context reads little, one that does reads everything."""
    nats = np.array([[0.0, 0.0], [0.0, 0.5], [0.5, np.inf]])

    assert chosen(nats, SIZES, 8192, bound=0.01).tolist() == [256, 1024, 0]


@built
def test_a_head_that_reads_everything_diverges_by_nothing():
    """Windows as long as the text change nothing, shorter ones do."""
    network = CpuNetwork(SMALL, QuantisedTensors(), kv_cache="int8")
    ids = torch.from_numpy(np.random.default_rng(2).integers(0, 200, 400))
    text = measuring.Text(network, ids, last=20)
    heads = SMALL.layers * SMALL.kv_heads

    assert text.divergence(measuring.as_table(np.full(heads, 400), SMALL)) == (0.0, 1.0)
    assert text.divergence(measuring.as_table(np.full(heads, 64), SMALL))[0] > 0


def test_shipped_tables_can_be_followed():
    """Every table is one that a sequence may have."""
    for table in json.loads(head_windows.TABLES.read_text(encoding="utf-8")).values():
        Sparsity(head_windows=tuple(map(tuple, table["windows"])))


def test_a_table_of_another_shape_is_not_used():
    """A model that nobody measured, or of other layers, has no windows."""
    unknown = np.zeros(16, dtype=np.float32)

    assert head_windows.measured(SMALL, unknown) is None
    assert head_windows.measured(dataclasses.replace(SMALL, layers=1), unknown) is None
