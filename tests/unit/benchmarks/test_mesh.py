"""Tables of the benchmarks."""

from __future__ import annotations

import json

import pytest

from benchmarks.mesh import report


@pytest.fixture
def result() -> dict:
    """A measurement of two rounds in which every hop adds exactly 10 ms."""
    return {
        "machine": {
            "processor": "Processor",
            "cores": 2,
            "memory_gib": 8.0,
            "python": "3.11",
            "commit": "abc",
            "changed_files": 0,
            "load_average": [0.1, 0.2, 0.3],
            "at": "2026-11-22T00:00:00Z",
        },
        "model": "m (Q4_1)",
        "options": {"rounds": 2, "max_tokens": 8},
        "first_token_seconds": {
            "inference": [0.1, 0.2],
            "gateway_grpc": [0.11, 0.21],
            "gateway_rest": [0.12, 0.22],
        },
        "call_seconds": {"extract": [0.005, 0.007], "decide": [0.001, 0.001]},
        "tokens_per_second": {"1": {"inference": [50, 60]}, "4": {"inference": [90, 95]}},
    }


def test_tables_show_what_each_hop_adds(result):
    """The difference is taken within rounds, so 10 ms a hop shows as 10 ms though rounds differ."""
    lines = report.tables(result).splitlines()
    assert "| gateway, gRPC in | +10.0 | +10.0 to +10.0 |" in lines
    assert "| gateway, REST in | +20.0 | +20.0 to +20.0 |" in lines


def test_tables_tell_machine_commit_and_load(result):
    """A figure never stands without where it was measured."""
    text = report.tables(result)
    for fact in ("Processor", "2 cores", "`abc`", "0.1 / 0.2 / 0.3", "m (Q4_1)"):
        assert fact in text


def test_samples_are_kept_as_they_were(result, tmp_path, monkeypatch):
    """The file holds everything, under a name of time and commit."""
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    path = report.save(result)
    assert path.name == "mesh-20261122T000000Z-abc.json"
    assert json.loads(path.read_text()) == result


def test_publishing_replaces_only_what_stands_between_the_markers(result, tmp_path, monkeypatch):
    """The page's own words stay, and publishing twice leaves one set of tables."""
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{report.BEGIN}old\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    for _ in range(2):
        report.publish(result, tmp_path / "samples.json")
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| tokens per second |") == 1
