"""Our end of the contenders' processes: start, ask, end."""

from __future__ import annotations

import json
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.engine.peers import environments
from benchmarks.engine.peers.catalogue import Peer, Variant
from benchmarks.engine.plan import OURS, Sample

ANSWER_SECONDS = 1800.0
"""Rounding a model to several mixes takes minutes, on a slow machine many."""
END_SECONDS = 3.0
BURN = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""


class Failed(Exception):
    """A contender could not do what it was asked, in its own words."""


@dataclass(frozen=True)
class Entrant:
    """A contender that can be started: its name in results, and how."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    group: str = OURS
    """Of several in a group, the best at a figure represent it."""
    is_one_thread: bool = False


def ourselves(name: str, model: pathlib.Path, settings: Mapping[str, str]) -> Entrant:
    """Return Thermesh with some settings of the environment."""
    options = json.dumps({"model": str(model)})
    command = (sys.executable, "-P", "-m", "benchmarks.engine.ours", options)
    return Entrant(name, command, {**environments.own_environment(), **settings}, group=name)


def peer_entrant(peer: Peer, variant: Variant, model: pathlib.Path, threads: int) -> Entrant:
    """Return a peer with one of its settings; its model file is made where need be."""
    file = environments.model_file(variant, model)
    options = {"threads": threads, **variant.options, "model": str(file)}
    module = f"benchmarks.engine.peers.{peer.module}"
    command = (str(environments.python(peer)), "-m", module, json.dumps(options))
    name = f"{peer.name} {variant.name}"
    return Entrant(name, command, environments.environment(), peer.name, variant.is_one_thread)


class Process:
    """A running contender. A crash ends one figure of it, not the run."""

    def __init__(self, entrant: Entrant) -> None:
        self.entrant = entrant
        self._errors: list[str] = []
        self._process = subprocess.Popen(
            entrant.command,
            env=entrant.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read_answers, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    def ask(self, call: str, **arguments: Any) -> Sample:
        """Return what the contender answers; raise Failed where it does not."""
        assert self._process.stdin is not None
        try:
            print(
                json.dumps({"call": call, "arguments": arguments}),
                file=self._process.stdin,
                flush=True,
            )
            line = self._answers.get(timeout=ANSWER_SECONDS)
        except (OSError, queue.Empty) as error:
            raise Failed(f"no answer: {self._last_words()}") from error
        if not line:
            # The end stays the end: a question may still fit into the pipe of
            # a process that is going, and nobody would answer it.
            self._answers.put("")
            raise Failed(f"the process ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        result: Sample = answer["result"]
        return result

    def close(self) -> None:
        """End the process: politely, by closing its stdin, then not."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(END_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join()

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put("")

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._errors = [*self._errors[-4:], line.strip()]

    def _last_words(self) -> str:
        return " / ".join(self._errors)[-300:]


class Processes:
    """The contenders that run, each started when it is first asked."""

    def __init__(self) -> None:
        self._running: dict[str, Process] = {}

    def of(self, entrant: Entrant) -> Process:
        """Return the running process of an entrant."""
        if entrant.name not in self._running:
            self._running[entrant.name] = Process(entrant)
        return self._running[entrant.name]

    def end(self, entrant: Entrant) -> None:
        """End the process of an entrant, if it runs."""
        if process := self._running.pop(entrant.name, None):
            process.close()

    def end_all(self) -> None:
        """End every process."""
        for process in list(self._running.values()):
            self.end(process.entrant)


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep another process computing at normal priority, from now on; it ends with its parent."""
    process = subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()
