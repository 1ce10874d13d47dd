"""Bars of the engine's benchmark, the rows that hold them, and the table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import report
from benchmarks.engine.plan import Figure, best_peer, values
from benchmarks.engine.rows import ROWS
from benchmarks.engine.verdicts import ahead_of_own, ahead_of_peers, at_most

RATE = Figure("decode", "decode")
TIME = Figure("first token", "first_token", unit="ms")
RATES = st.lists(st.floats(1, 1000), min_size=1, max_size=9)


@given(RATES, RATES)
def test_the_best_peer_has_the_best_median(one, other):
    """More is better of rates, less of times; ours is never its own peer."""
    samples = {"decode": {"thermesh": [1e6], "a": one, "b": other}}
    medians = {name: sorted(values(samples, "decode", name)) for name in ("a", "b")}
    medians = {
        name: (each[(len(each) - 1) // 2] + each[len(each) // 2]) / 2
        for name, each in medians.items()
    }
    fastest = best_peer(samples, "decode", is_rate=True)
    slowest = best_peer(samples, "decode", is_rate=False)
    assert medians[fastest] == max(medians.values())
    assert medians[slowest] == min(medians.values())


@pytest.mark.parametrize(("mine", "is_met"), [(200.0, True), (179.0, False)])
def test_a_rate_is_judged_by_the_best_peer(mine, is_met):
    """At 1.8 times the best peer the bar is met, below it is not."""
    samples = {"decode": {"thermesh": [mine] * 5, "a": [50.0] * 5, "b": [100.0] * 5}}
    verdict = ahead_of_peers(samples, RATE, 1.8)
    assert verdict.is_met is is_met
    assert f"**{mine / 100:.2f}x**" in verdict.found
    assert verdict.beside.endswith(", b")


@pytest.mark.parametrize("samples", [{}, {"decode": {"a": [1.0]}}, {"decode": {"thermesh": [1.0]}}])
def test_what_was_not_measured_is_neither_met_nor_missed(samples):
    """A verdict needs both sides."""
    assert ahead_of_peers(samples, RATE, 1.0).is_met is None
    assert ahead_of_own(samples, "decode", "elsewhere", 1.0).is_met is None


def test_few_samples_are_told_and_not_judged():
    """A run that was stopped claims nothing of what it began."""
    samples = {"decode": {"thermesh": [300.0] * 4, "a": [100.0] * 5}}
    verdict = ahead_of_peers(samples, RATE, 1.8)
    assert verdict.is_met is None
    assert "n = 4" in verdict.found


def test_a_cache_that_is_not_the_default_is_told_and_not_judged():
    """The bar behind 4,096 tokens is the default's; those of fewer bits stand beside it."""
    rates = {
        "thermesh": [150.0] * 5,
        "thermesh: int10": [210.0] * 5,
        "thermesh: int8": [220.0] * 5,
        "a": [50.0] * 5,
    }
    *_, judged, ten_bits, eight_bits = ROWS[1].verdicts({"decode at 4,096": rates})
    assert judged.is_met is False
    assert "**3.00x**" in judged.found
    for beside, ratio in ((ten_bits, "4.20"), (eight_bits, "4.40")):
        assert (beside.is_met, beside.bar) == (None, "")
        assert f"**{ratio}x**" in beside.found


def test_own_settings_are_compared_with_each_other():
    """A variant of ours is judged by another variant of the same figure."""
    samples = {"decode": {"thermesh: sparse": [30.0] * 5, "thermesh: dense": [20.0] * 5}}
    verdict = ahead_of_own(samples, "decode", "decode", 1.5, setting="sparse", before="dense")
    assert verdict.is_met is True
    assert best_peer(samples, "decode", is_rate=True) is None


def test_times_are_judged_by_their_median_and_tell_their_tail():
    """One slow sample of many misses no bar, and is not hidden either."""
    samples = {"first token": {"thermesh": [[50.0] * 19, [500.0]]}}
    verdict = at_most(samples, TIME, 75)
    assert verdict.is_met is True
    assert "p95" in verdict.found


def test_named_values_are_told_apart():
    """A sample may hold several values; a verdict asks for one."""
    samples = {"load": {"thermesh": [{"seconds": 1.0, "mib": 300.0}, {"seconds": 2, "mib": 301}]}}
    assert values(samples, "load", "thermesh", "mib") == [300.0, 301]


def test_figures_of_one_name_are_one_measurement():
    """Rows may share a figure, so what shares a name must be the same."""
    figures = [figure for row in ROWS.values() for figure in row.figures]
    by_name = {figure.name: figure for figure in figures}
    assert all(by_name[figure.name] == figure for figure in figures)
    assert all(figure.rounds >= 5 or (figure.rounds == 1 and not figure.unit) for figure in figures)


def test_nothing_is_claimed_of_what_was_not_measured():
    """An empty file makes a table without rows, and a list of what is missing."""
    text = report.table(
        {
            "machine": {
                "processor": "P",
                "cores": 2,
                "memory_gib": 8,
                "commit": "abc",
                "changed_files": 0,
                "at": "2026-11-22T00:00:00Z",
            },
            "slices": [{"load_average": [0.1, 0, 0], "seconds": 60}],
            "model": "m",
            "contenders": {"a": {"engine": "e 1"}},
            "samples": {},
            "failures": {"decode": {"a": "it crashed"}},
        }
    )
    assert "| yes |" not in text
    assert "| **no** |" not in text
    assert "Not measured in this run: 1 stream, 16 streams," in text
    assert "commit `abc`" in text
    assert "Engines: e 1." in text
    assert "a took no part in “decode”" in text


def test_rows_that_need_several_values_judge_what_they_have():
    """Guesses are judged by their own round, mixes and memory by exact figures."""
    row = ROWS[12]
    sample = {"with": 32.0, "without": 20.0, "same": 1.0}
    named = {figure.name: {"thermesh": [sample] * 5} for figure in row.figures[:4]}
    met = {verdict.figure: verdict.is_met for verdict in row.verdicts(named)}
    assert met["guesses, copying, T = 0"] is True
    assert met["guesses, free, T = 0"] is True
    assert met["guesses, copying, T = 0.7"] is None
    assert met["same tokens as without guesses"] is True
    sizes = {"f16": 1000.0, "int8": 530.0, "means": 30.0}
    (memory,) = ROWS[8].verdicts({ROWS[8].figures[0].name: {"thermesh": [sizes]}})
    assert memory.is_met is False
    assert "-47.0%" in memory.found


def test_a_table_names_the_commits_of_its_rows():
    """Where rows were measured at several, each commit is told with its rows."""
    result = {
        "machine": {
            "processor": "P",
            "cores": 2,
            "memory_gib": 8,
            "commit": "new",
            "changed_files": 0,
            "at": "2026-11-22T00:00:00Z",
        },
        "slices": [{"load_average": [0.1, 0, 0], "seconds": 60}],
        "model": "m",
        "commits": {ROWS[10].figures[0].name: "new", ROWS[2].figures[0].name: "old"},
    }
    told = report.conditions(result)
    assert "commits `old` (rows 2), `new` (rows 10)" in told


def _run(processor, kernels, commit):
    return {
        "machine": {
            "processor": processor,
            "cores": 2,
            "memory_gib": 8,
            "commit": commit,
            "changed_files": 0,
            "at": "2026-11-22T00:00:00Z",
        },
        "slices": [{"load_average": [0.1, 0, 0], "seconds": 60}],
        "model": "m",
        "contenders": {"thermesh": {"engine": "thermesh", "kernels": kernels}},
        "samples": {},
        "failures": {},
    }


def test_each_machine_has_a_file_and_a_table_of_its_own(tmp_path, monkeypatch):
    """A run replaces what its machine has published; other machines', also those that only
    differ in what their processor can, stay beside it.
    """
    page, run = tmp_path / "page.md", tmp_path / "run.json"
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    page.write_text(f"before\n{report.BEGIN}{report.END}after\n")
    xeon, epyc = "Intel(R) Xeon(R) Processor", "AMD EPYC"
    for one in (
        (xeon, "cpu-avx512-amx", "first"),
        (epyc, "cpu-avx512-vnni", "second"),
        (xeon, "cpu-avx512-vnni", "third"),
        (xeon, "cpu-avx512-amx", "fourth"),
    ):
        run.write_text(json.dumps(_run(*one)))
        report.publish(run)
    text = page.read_text()
    assert [path.name for path in report.published()] == [
        "engine-amd-epyc-2-cores-avx512-vnni.json",
        "engine-intel-xeon-processor-2-cores-avx512-amx.json",
        "engine-intel-xeon-processor-2-cores-avx512-vnni.json",
    ]
    assert "### Intel(R) Xeon(R) Processor, 2 cores, avx512-amx\n\nIntel" in text
    assert "commit `first`" not in text
    assert all(f"commit `{commit}`" in text for commit in ("second", "third", "fourth"))
    assert text.startswith(f"before\n{report.BEGIN}\n### AMD EPYC, 2 cores")
    assert text.endswith(f"{report.END}after\n")
