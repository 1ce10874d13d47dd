"""The wire between the benchmark and its contenders, which are processes."""

from __future__ import annotations

import json
import pathlib
import random
import sys
import time

import pytest

import benchmarks
from benchmarks.engine.contender import during_a_step
from benchmarks.engine.peers import environments
from benchmarks.engine.peers.catalogue import PEERS
from benchmarks.engine.processes import Entrant, Failed, Process
from thermesh.errors import FailedPrecondition

CONTENDER = """
import os
from benchmarks.engine.contender import serve

class Echo:
    def decode(self, context, steps):
        print("chatter of a library")
        os.write(1, b"and of another")
        return context * steps

    def prefill(self, tokens):
        raise ValueError(f"no {tokens}")

    def die(self):
        os.write(2, b"fatal: I am gone\\n")
        os._exit(1)

serve(lambda options: Echo())
"""


@pytest.fixture
def process(root_of_tree, tmp_path):
    """A running contender."""
    options = json.dumps({"model": __file__})
    entrant = Entrant(
        "echo", (sys.executable, "-c", CONTENDER, options), {"PYTHONPATH": root_of_tree}
    )
    started = Process(entrant)
    yield started
    started.close()


@pytest.fixture
def root_of_tree() -> str:
    """The folder that `benchmarks` is in."""
    return str(pathlib.Path(benchmarks.__file__).parents[1])


def test_a_contender_answers_and_may_chatter(process):
    """What libraries print never meets the answers; errors come in the contender's words."""
    assert process.ask("decode", context=3, steps=4) == 12
    with pytest.raises(Failed, match="ValueError: no 7"):
        process.ask("prefill", tokens=7)
    footprint = process.ask("footprint")
    assert footprint["load_seconds"] >= 0
    assert 0 < footprint["before_mib"] <= footprint["now_mib"]


def test_a_contender_that_dies_leaves_its_last_words(process):
    """The run learns why and can go on."""
    with pytest.raises(Failed, match="the process ended"):
        process.ask("die")
    with pytest.raises(Failed):
        process.ask("decode", context=1, steps=1)


def test_a_peer_sees_nothing_of_ours_but_the_benchmarks(tmp_path, monkeypatch):
    """Neither our packages nor our source tree are on its path."""
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    for _ in range(2):
        path = pathlib.Path(environments.environment()["PYTHONPATH"])
        assert [each.name for each in path.iterdir()] == ["benchmarks"]
        assert (path / "benchmarks").resolve() == pathlib.Path(benchmarks.__file__).parent


def test_every_peer_can_be_run():
    """Each has a module, a variant that runs idle, and distinct names."""
    folder = pathlib.Path(environments.__file__).parent
    for peer in PEERS.values():
        assert (folder / f"{peer.module}.py").is_file()
        assert not all(variant.is_one_thread for variant in peer.variants)
        assert len({variant.name for variant in peer.variants}) == len(peer.variants)


def test_a_peer_that_pypi_lacks_is_measured_where_it_stands(tmp_path, monkeypatch):
    """All are those that can be installed and those whose Python the user names."""
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    installable = [peer.name for peer in environments.known(["all"], {})]
    assert "vllm-cpu" not in installable
    with pytest.raises(FailedPrecondition, match="--peer-python vllm-cpu=PATH"):
        environments.prepare(*environments.known(["vllm-cpu"], {}))
    here = pathlib.Path(sys.executable)
    found = environments.known(["all"], {"vllm-cpu": here})
    assert [peer.name for peer in found] == [*installable, "vllm-cpu"]
    environments.prepare(found[-1])
    assert environments.python(found[-1]) == here


def test_an_arrival_lies_inside_a_step():
    """Steps go on until the moment has passed, so whoever arrives waits for the rest of one."""
    ended = []
    arrived = during_a_step(random.Random(1), lambda: ended.append(time.perf_counter()))
    assert ended[3] <= arrived <= ended[-1] or len(ended) == 4
