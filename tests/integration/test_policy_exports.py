"""The study's curves in TensorBoard and Weights & Biases themselves, where they are installed."""

from __future__ import annotations

import pytest

from benchmarks.policy import exports

FOUND = {
    "matrix": {"model": "m"},
    "learned": {"T": {"Thompson": {"curve": [0.5, 0.75]}}},
}
# Both libraries import what is deprecated; that is theirs to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_tensorboard_reads_the_curves(tmp_path):
    """Every point stands in the event file, by name and step."""
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    exports.export(FOUND, str(tmp_path), None)
    found = events.EventAccumulator(str(tmp_path)).Reload()

    assert [(each.step, each.value) for each in found.Scalars("T/Thompson")] == [
        (100, 0.5),
        (200, 0.75),
    ]


def test_weights_and_biases_keeps_the_curves(tmp_path, monkeypatch):
    """An offline run, which needs neither account nor network, has them in its file."""
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    exports.export(FOUND, None, "project")
    (kept,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")

    written = kept.read_bytes()
    assert b"T/Thompson" in written
    assert b"feedback" in written
