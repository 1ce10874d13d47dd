"""Samples are interleaved, kept one by one, and a run goes on where it stopped."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine import runner
from benchmarks.engine.__main__ import row_numbers
from benchmarks.engine.plan import Figure
from benchmarks.engine.processes import Entrant, Failed
from benchmarks.engine.results import Results
from benchmarks.engine.runner import Runner, order, representatives
from thermesh.errors import FailedPrecondition, InvalidArgument

FIGURE = Figure("decode", "decode")
OURS = Entrant("thermesh", (), {}, "thermesh")
SLOW, FAST, FASTER = (
    Entrant(f"peer {speed}", (), {}, "peer") for speed in ("slow", "fast", "faster")
)
SPEEDS = {"thermesh": 30.0, "peer slow": 10.0, "peer fast": 20.0, "peer faster": 25.0}


class Answering:
    """Processes that answer at once; `asked` tells whom, in order."""

    def __init__(self, failing: str = "") -> None:
        self.asked: list[str] = []
        self.ended: list[str] = []
        self._failing = failing

    def of(self, entrant):
        """Return something that answers for `entrant`."""
        return Asked(self, entrant.name, self._failing)

    def end(self, entrant):
        """Note that the process was ended."""
        self.ended.append(entrant.name)


@dataclasses.dataclass
class Asked:
    """One contender of `Answering`."""

    processes: Answering
    name: str
    failing: str

    def ask(self, call, **_arguments):
        """Answer with the contender's speed."""
        if call == "describe":
            return {"engine": self.name}
        if self.name == self.failing:
            raise Failed("it broke")
        self.processes.asked.append(self.name)
        return SPEEDS[self.name]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(runner, "SETTLE_SECONDS", 0.0)


def run(results, processes, seconds=float("inf"), figure=FIGURE):
    """Run one slice with three variants of a peer; return whether it is done."""
    return Runner(
        results,
        processes,
        peers=[SLOW, FAST, FASTER],
        ours=lambda _figure: [OURS],
        seconds=seconds,
        tell=lambda _line: None,
    ).run([figure])


@given(st.sets(st.text(min_size=1), max_size=6), st.integers(0, 9))
def test_an_order_is_a_permutation_that_can_be_repeated(names, number):
    """Whoever resumes a round gets the order in which it began."""
    assert sorted(order(names, "figure", number)) == sorted(names)
    assert order(names, "figure", number) == order(list(names), "figure", number)


def test_the_two_fastest_variants_stand_for_their_group():
    """Most of rates, least of times; one that failed its trial does not go on."""
    entrants = [OURS, SLOW, FAST, FASTER]
    chosen = representatives(entrants, SPEEDS, is_rate=True)
    assert [each.name for each in chosen] == ["thermesh", "peer faster", "peer fast"]
    chosen = representatives(entrants, SPEEDS, is_rate=False)
    assert [each.name for each in chosen] == ["thermesh", "peer slow", "peer fast"]
    chosen = representatives(entrants, {"thermesh": 1.0, "peer slow": 1.0}, is_rate=True)
    assert [each.name for each in chosen] == ["thermesh", "peer slow"]


def test_contenders_take_turns(tmp_path):
    """After the trials, every round asks each of the chosen once."""
    processes, results = Answering(), Results(tmp_path / "run.json", "m")
    assert run(results, processes)
    assert sorted(processes.asked[:4]) == sorted(SPEEDS)
    rounds = processes.asked[4:]
    turns = [set(rounds[at : at + 3]) for at in range(0, len(rounds), 3)]
    assert turns == [{"thermesh", "peer fast", "peer faster"}] * FIGURE.rounds


def test_a_run_in_slices_takes_the_samples_of_one_run(tmp_path, monkeypatch):
    """Stopped after every sample and resumed, it asks the same in the same order."""
    whole = Answering()
    run(Results(tmp_path / "whole.json", "m"), whole)
    path, pieces, done = tmp_path / "pieces.json", Answering(), False
    Results(path, "m").save()
    while not done:
        ticks = iter([0.0, 0.0, *[1.0] * 9])
        # The runner's own: a clock that stood still for all would hold other threads up.
        clock = types.SimpleNamespace(monotonic=lambda t=ticks: next(t, 1.0), sleep=time.sleep)
        monkeypatch.setattr(runner, "time", clock)
        done = run(Results.resumed(path, "m"), pieces, seconds=1.0)
    assert pieces.asked == whole.asked


def test_a_contender_that_breaks_is_out_of_this_figure_only(tmp_path):
    """Its words are kept, its process ends, the others go on, and no resume asks it again."""
    processes, results = Answering(failing="peer fast"), Results(tmp_path / "run.json", "m")
    assert run(results, processes)
    assert results.content["failures"] == {"decode": {"peer fast": "it broke"}}
    assert processes.ended == ["peer fast"]
    assert set(results.samples["decode"]) == {"thermesh", "peer faster", "peer slow"}
    before = list(processes.asked)
    assert run(results, processes)
    assert processes.asked == before


def test_a_dear_figure_has_no_trial(tmp_path):
    """Its first sample counts."""
    processes = Answering()
    figure = Figure("gap", "gap", has_trial=False, has_peers=False)
    run(Results(tmp_path / "run.json", "m"), processes, figure=figure)
    assert processes.asked == ["thermesh"] * figure.rounds


def test_one_thread_enters_only_beside_a_neighbour(tmp_path):
    """Else the figure would choose between settings nobody would use."""
    single = dataclasses.replace(FAST, is_one_thread=True)
    assert not runner.takes_part(single, FIGURE)
    assert runner.takes_part(single, dataclasses.replace(FIGURE, has_neighbour=True))


def test_a_run_goes_on_only_where_it_began(tmp_path):
    """Another model or machine would mix what cannot be compared."""
    path = tmp_path / "run.json"
    Results(path, "m").save()
    with pytest.raises(FailedPrecondition, match="model"):
        Results.resumed(path, "other")
    content = json.loads(path.read_text())
    content["machine"]["cores"] = 512
    path.write_text(json.dumps(content))
    with pytest.raises(FailedPrecondition, match=r"cores \(512, here"):
        Results.resumed(path, "m")


@pytest.mark.parametrize(("rounds", "asked"), [(FIGURE.rounds, 0), (FIGURE.rounds + 1, 4 + 18)])
def test_at_another_commit_what_is_done_is_kept_and_the_rest_begins_anew(tmp_path, rounds, asked):
    """No figure mixes samples of two commits; each tells its own."""
    results = Results(tmp_path / "run.json", "m")
    run(results, Answering())
    results.content["commits"]["decode"] = "before"
    results.save()
    processes, resumed = Answering(), Results.resumed(results.path, "m")
    run(resumed, processes, figure=dataclasses.replace(FIGURE, rounds=rounds))
    assert len(processes.asked) == asked
    is_kept = resumed.content["commits"]["decode"] == "before"
    assert is_kept is (asked == 0)
    assert all(len(each) == rounds for each in resumed.samples["decode"].values())


def test_a_figure_can_be_forgotten(tmp_path):
    """It is then measured as if it never was."""
    results = Results(tmp_path / "run.json", "m")
    run(results, Answering())
    results.forget("decode")
    processes = Answering()
    run(results, processes)
    assert len(processes.asked) == 4 + 3 * FIGURE.rounds


def test_rows_are_chosen_by_a_list_of_numbers():
    """A number that is no row is refused, with those that are."""
    assert row_numbers("3,10") == [3, 10]
    for text in ("0", "3;10", "", "1,99"):
        with pytest.raises(argparse.ArgumentTypeError, match="list of rows of 1, 2"):
            row_numbers(text)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"machine": 1}'])
def test_what_is_no_run_is_refused(tmp_path, text):
    """A file that is missing or holds something else is named."""
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidArgument, match=r"run\.json"):
        Results.resumed(path, "m")
